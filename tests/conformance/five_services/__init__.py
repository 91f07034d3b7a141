"""Five services in depth: requests made by botocore and the records they must give."""
