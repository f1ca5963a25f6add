"""What pools do when something goes wrong: cases, and a referee who survives both."""
