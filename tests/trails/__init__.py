"""Tests of src/opentrail/trails."""
