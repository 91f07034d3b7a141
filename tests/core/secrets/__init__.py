"""Tests of core/secrets."""
