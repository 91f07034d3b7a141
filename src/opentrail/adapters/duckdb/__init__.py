"""EventStore on DuckDB: a hot layer in memory and immutable sealed files.

The server imports `messages` and `files` alone: only the history process loads DuckDB.
"""
