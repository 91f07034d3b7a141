"""The web console's sessions, pages and calls."""
