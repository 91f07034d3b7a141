"""The CloudTrail API and the console port."""
