"""The CloudTrail API: its operations, who may call them, and their errors."""
