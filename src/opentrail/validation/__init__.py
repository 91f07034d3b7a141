"""Validating a trail: an independent verifier of log files and digests; no code of the writer's."""
