"""Tests of adapters/ipc."""
