"""Object store, services and trails behind an AWS-compatible endpoint, by boto3."""
