"""Optimisation strategies, one a file, and what they are built from."""
