"""Tests against real processes: opentrail, moto, aws-cli."""
