"""Unusual activity: how often APIs are called, what is usual, and when it was not."""
