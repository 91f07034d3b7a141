"""Five services in depth: requests made by botocore, and their required records."""
