"""Runs programs on fastpool that know nothing of it."""
