"""Secrets in names and texts: which they are, and what hides them."""
