"""Tests of the translation of Trino's dialect."""
