"""Tests of the verifier, on the writer's files."""
