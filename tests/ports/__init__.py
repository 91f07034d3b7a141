"""Tests of ports other than stores."""
