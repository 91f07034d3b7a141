"""Verifies signatures with public keys."""

from __future__ import annotations

from typing import Protocol


class Verifier(Protocol):
    """RSASSA-PKCS1-v1_5 with SHA-256."""

    def verifies(self, public_der: bytes, signature: bytes, content: bytes) -> bool:
        """Return whether the key, PKCS#1 DER, made this signature of `content`.

        Raises:
            ValueError: the key is not an RSA key of 2048 bits or more in this form.
        """
        ...
