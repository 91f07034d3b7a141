"""Authorisation of CloudTrail's API: which permissions a call needs, and whether it has them."""
