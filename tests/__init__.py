"""Tests of opentrail; the folders mirror src/opentrail."""
