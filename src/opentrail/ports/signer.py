"""Keys that sign digests."""

from __future__ import annotations

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

    async def keys(self) -> list[SigningKey]:
        """Return every key that ever signed, oldest first."""
        ...

    async def current(self, moment: datetime | None = None) -> SigningKey:
        """Return the key that signs a digest that ends at `moment`, by default now.

        A new key is created when the last one has expired. A digest that ended before a key was
        created is signed with an older key, so that the keys valid in a time range are enough to
        verify its digests.
        """
        ...

    async def sign(self, content: bytes, fingerprint: str) -> bytes:
        """Return the signature of `content` by the key with this fingerprint."""
        ...
