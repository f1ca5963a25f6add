"""What pools do when something goes wrong: cases, contenders, and a referee who survives both."""
