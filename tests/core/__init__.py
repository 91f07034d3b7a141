"""Tests of opentrail.core."""
