"""Whole jobs, as a user of each pool would write them; ``python benchmarks/jobs`` runs them."""
