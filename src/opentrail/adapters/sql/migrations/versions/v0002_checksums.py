"""Each document has a checksum; earlier documents have none until they are written again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Adds the column."""
    op.add_column("documents", sa.Column("checksum", sa.BigInteger, nullable=True))
