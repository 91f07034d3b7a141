"""Detections: Sigma rules, tested on recorded events and applied to new ones."""
