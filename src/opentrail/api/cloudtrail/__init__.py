"""The CloudTrail API: its operations, authorization and errors."""
