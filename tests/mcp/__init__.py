"""Answers to AI agents."""
