"""Engines behind the ports. `app` chooses them for the server; imports and commands use some."""
