"""Wiring: which engine is behind which port, and which process does what.

Nothing is imported here, so that recorder processes load only what recording needs.
"""
