"""The JSON API under `/api/v1`, for the command line, the web console and scripts."""
