"""Tests of opentrail.insights."""
