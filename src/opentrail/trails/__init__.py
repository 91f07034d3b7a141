"""Trails: delivery of log files to buckets, and the digest chain over them."""
