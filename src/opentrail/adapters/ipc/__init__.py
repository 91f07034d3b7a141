"""Processes of one server, and the messages between them."""
