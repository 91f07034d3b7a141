"""Tests of src/opentrail/api."""
