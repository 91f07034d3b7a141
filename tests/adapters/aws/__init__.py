"""Tests of adapters/aws."""
