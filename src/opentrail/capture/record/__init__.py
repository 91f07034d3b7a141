"""Assembling a CloudTrail record from one request and its response."""
