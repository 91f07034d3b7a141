"""State that several machines share, on PostgreSQL."""
