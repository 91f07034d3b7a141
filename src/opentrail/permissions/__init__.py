"""Which permissions calls need, and which a policy gives."""
