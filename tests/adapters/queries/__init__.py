"""Tests of src/opentrail/adapters/duckdb."""
