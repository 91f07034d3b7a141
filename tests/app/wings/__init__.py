"""Tests of the wings of a server."""
