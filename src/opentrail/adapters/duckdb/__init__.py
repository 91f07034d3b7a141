"""EventStore on DuckDB: a hot layer in memory and immutable sealed files (architecture.md §4)."""

from opentrail.adapters.duckdb.store import DuckdbEvents

__all__ = ["DuckdbEvents"]
