"""Assembles a CloudTrail record from a request and its response."""
