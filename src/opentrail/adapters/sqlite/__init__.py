"""Journal on SQLite (architecture.md §3): segments that one process writes and others may read."""

from opentrail.adapters.sqlite.journal import SqliteJournal

__all__ = ["SqliteJournal"]
