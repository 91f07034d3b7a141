"""Event history: search over all recorded and imported events."""
