"""Tests of opentrail.app."""
