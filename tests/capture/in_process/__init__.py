"""Tests of capture/in_process."""
