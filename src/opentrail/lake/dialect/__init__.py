"""Translates allowed statements in Trino's dialect to DuckDB's."""
