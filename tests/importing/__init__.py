"""Tests of `opentrail import`."""
