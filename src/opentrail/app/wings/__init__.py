"""The wings of a server; `register.py` lists them."""
