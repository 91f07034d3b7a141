"""The tables of the control store, and the versions of its schema."""

from __future__ import annotations

import sqlalchemy as sa

#: Every version of the schema, oldest first; each has a migration in `migrations/versions`.
VERSIONS = ("0001", "0002")
METADATA = sa.MetaData()
#: Keys are compared byte by byte, whatever language the database was created for.
_text = sa.String().with_variant(sa.String(collation="C"), "postgresql")
DOCUMENTS = sa.Table(
    "documents",
    METADATA,
    sa.Column("kind", _text, primary_key=True),
    sa.Column("key", _text, primary_key=True),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("body", sa.Text, nullable=False),
    #: CRC-32 of kind, key and body; none in documents that were written before there was one.
    sa.Column("checksum", sa.BigInteger, nullable=True),
)
#: Alembic's table of one row: the version of the schema.
VERSION = sa.Table(
    "opentrail_schema",
    METADATA,
    sa.Column("version_num", sa.String(32), primary_key=True),
)
