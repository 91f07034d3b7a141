"""What several machines share, on PostgreSQL."""
