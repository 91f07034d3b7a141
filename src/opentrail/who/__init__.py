"""Answers to "who did this?", in a sentence with its evidence."""
