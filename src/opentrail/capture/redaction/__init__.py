"""Redaction of secrets, before a record exists."""
