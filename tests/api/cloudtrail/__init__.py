"""Tests of the CloudTrail API."""
