"""Processes of one server, and what they say to each other."""
