"""Tests of ports that are no store."""
