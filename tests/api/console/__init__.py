"""Tests of the web console's calls."""
