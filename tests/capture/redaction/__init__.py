"""Tests of capture/redaction."""
