"""Event selectors against the text of the specification, by hand and by the ten thousand."""
