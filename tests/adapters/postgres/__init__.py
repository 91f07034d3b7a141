"""Tests of stores that several machines share."""
