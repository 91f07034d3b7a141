"""Who is behind an access key, learned from records and from the directory."""
