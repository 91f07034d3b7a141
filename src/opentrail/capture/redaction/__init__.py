"""Hiding secrets before a record exists."""
