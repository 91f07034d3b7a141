"""Tests of opentrail.capture."""
