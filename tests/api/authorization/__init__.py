"""Which permissions a call needs, and whether it has them."""
