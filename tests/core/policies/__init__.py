"""IAM policies: documents, conditions, decisions."""
