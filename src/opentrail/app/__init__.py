"""Wiring: puts an engine behind each port, and assigns work to processes.

Imports nothing, so that recorder processes load only the modules that recording needs.
"""
