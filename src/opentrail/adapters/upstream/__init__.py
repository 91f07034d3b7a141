"""What answers behind an upstream, and as whom it sees a caller."""
