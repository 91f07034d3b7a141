"""The control store on SQL databases: SQLite and PostgreSQL."""

from opentrail.adapters.sql.control import SqlControl

__all__ = ["SqlControl"]
