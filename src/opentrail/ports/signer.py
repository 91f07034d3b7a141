"""Keys that sign digests, and encryption of secrets at rest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The public half of a signing key (PKCS#1 DER) and its validity."""

    fingerprint: str
    public_der: bytes
    valid_from: datetime
    valid_until: datetime


class Signer(Protocol):
    """RSASSA-PKCS1-v1_5 with SHA-256 over RSA keys of 2048 bits or more."""

    @property
    def problems(self) -> Sequence[str]:
        """The faults of the stored keys, as of the last check; without paths."""
        ...

    async def check(self) -> Sequence[str]:
        """Return the current faults of the stored keys, without paths."""
        ...

    async def keys(self) -> list[SigningKey]:
        """Return every key that ever signed, oldest first; also those whose files are damaged."""
        ...

    async def current(self, moment: datetime | None = None) -> SigningKey:
        """Return the key that signs a digest that ends at `moment`, by default now.

        A new key is created when the last one has expired. A digest that ended before a key was
        created is signed with an older key, so that the keys valid in a time range are enough to
        verify its digests.

        Raises:
            SigningKeyUnavailable: no key can be used.
        """
        ...

    async def sign(self, content: bytes, fingerprint: str) -> bytes:
        """Return the signature of `content` by the key with this fingerprint.

        Raises:
            SigningKeyUnavailable: the key cannot be used.
        """
        ...


class Sealer(Protocol):
    """Authenticated encryption under one master key."""

    def seal(self, plain: bytes, context: str) -> str:
        """Return text that shows nothing of `plain` but its length."""
        ...

    def unseal(self, sealed: str, context: str) -> bytes:
        """Return the sealed content, only if it was sealed in this context by this master key.

        Raises:
            StorageFailed: it was changed or moved to another context, or another key sealed it.
        """
        ...
