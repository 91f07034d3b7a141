"""Unusual activity: call rates of APIs, their usual values, and deviations from these."""
