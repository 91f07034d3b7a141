"""Tests of src/opentrail/adapters/sqlite."""
