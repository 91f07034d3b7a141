"""SQL over events, in Trino's dialect."""
