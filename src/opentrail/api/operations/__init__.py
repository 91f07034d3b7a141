"""CloudTrail API operations, one module per kind of resource."""
