"""What stands in for fastpool where it has no native core: the standard library's own."""
