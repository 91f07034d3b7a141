"""A server alone, and as a member of a cluster."""
