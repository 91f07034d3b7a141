"""Where trails send events and notifications besides their bucket."""
