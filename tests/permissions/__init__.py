"""Which permissions calls need, and policies of what was seen."""
