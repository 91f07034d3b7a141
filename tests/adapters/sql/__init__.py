"""Adapters on SQL databases."""
