"""The tables of stores that were made before schemas had versions; they stay as they are."""

from __future__ import annotations

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Leaves the documents as they are: only the version is new."""
