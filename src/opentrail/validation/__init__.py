"""Validating a trail: an independent verifier of log files and digests.

It shares no code with the writer in `trails/`.
"""
