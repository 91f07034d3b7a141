"""The permissions of calls, and policies generated from events."""
