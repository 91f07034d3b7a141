"""Encryption of secrets at rest."""

from __future__ import annotations

from typing import Protocol


class Sealer(Protocol):
    """Authenticated encryption under one master key."""

    def seal(self, plain: bytes, context: str) -> str:
        """Return text that shows nothing of `plain` but its length."""
        ...

    def unseal(self, sealed: str, context: str) -> bytes:
        """Return what was sealed, only if it was sealed in this context by this master key.

        Raises:
            StorageFailed: it was changed, moved to another context, or the master key is another.
        """
        ...
