"""Translates statements of Trino's dialect to DuckDB, by a list of what is allowed."""
