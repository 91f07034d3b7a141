"""Recognizes and hides secrets in names and strings."""
