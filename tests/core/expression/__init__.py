"""Tests of opentrail.core.expression."""
