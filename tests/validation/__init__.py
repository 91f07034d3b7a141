"""Tests of the verifier, on what the writer delivers."""
