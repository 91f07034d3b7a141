"""One's own applications behind middleware."""
