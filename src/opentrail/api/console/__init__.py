"""The web console: its session, its pages and its calls."""
