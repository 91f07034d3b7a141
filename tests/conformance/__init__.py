"""Round trips of every operation of every service in botocore, against the model's own word."""
