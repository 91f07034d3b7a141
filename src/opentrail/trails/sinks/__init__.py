"""Where trails send events and notifications beside their bucket."""
