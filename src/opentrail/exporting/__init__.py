"""The command `export`: any search as files that other tools read."""
