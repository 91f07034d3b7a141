"""The control store on SQL databases: SQLite and PostgreSQL."""

from opentrail.adapters.sql.control_store import SqlControl

__all__ = ["SqlControl"]
