"""Tests of the command line's arguments."""
