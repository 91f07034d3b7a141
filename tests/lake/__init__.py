"""Tests of SQL over events."""
