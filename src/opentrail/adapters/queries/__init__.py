"""Queries: their processes, and where queries and results are kept."""
