"""Tests of trails/sinks."""
