"""Tests of opentrail; the folders have the names of those in src/opentrail."""
