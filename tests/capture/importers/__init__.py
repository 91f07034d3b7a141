"""Tests of reading files that others wrote."""
