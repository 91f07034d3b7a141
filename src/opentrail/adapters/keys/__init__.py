"""Keys: RSA signatures, and sealed secrets."""
