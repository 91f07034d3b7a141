"""Judges Insights: synthetic accounts with labelled incidents, scores, plain baselines."""
