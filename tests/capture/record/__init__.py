"""Tests of capture/record."""
