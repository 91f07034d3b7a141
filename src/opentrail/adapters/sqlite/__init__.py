"""Journal on SQLite: segments that one process writes and others may read."""

from opentrail.adapters.sqlite.journal import SqliteJournal

__all__ = ["SqliteJournal"]
