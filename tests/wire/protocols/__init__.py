"""Tests of opentrail.wire.protocols."""
