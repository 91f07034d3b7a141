"""Tests of opentrail.wire."""
