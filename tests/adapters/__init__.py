"""Tests of src/opentrail/adapters."""
