"""Tests of src/opentrail/api/operations."""
