"""Signer on an RSA key in the data directory."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.adapters.files import write_durably
from opentrail.core.errors import StorageFailed
from opentrail.core.event import format_time, parse_time
from opentrail.ports.clock import Clock
from opentrail.ports.signer import SigningKey

_KEY_BITS = 2048
#: Digests of a trail stay verifiable as long as their key is listed, so keys live long.
_VALIDITY = timedelta(days=3650)


class RsaSigner:
    """Keeps one RSA key as `signing-<valid from>.pem` (0600), made when first needed.

    The fingerprint is the MD5 of the PKCS#1 DER public key, as AWS's are (real-records.md).
    """

    def __init__(self, folder: Path, clock: Clock) -> None:
        self._folder = folder
        self._clock = clock
        self._lock = asyncio.Lock()
        self._loaded: list[tuple[SigningKey, rsa.RSAPrivateKey]] = []

    async def keys(self) -> list[SigningKey]:
        """Returns every key, oldest first."""
        async with self._lock:
            if not self._loaded:
                self._loaded = await asyncio.to_thread(self._load)
        return [key for key, _ in self._loaded]

    async def sign(self, content: bytes) -> bytes:
        """Returns the PKCS#1 v1.5 signature over SHA-256 of `content`."""
        await self.keys()
        private = self._loaded[-1][1]
        return await asyncio.to_thread(private.sign, content, padding.PKCS1v15(), hashes.SHA256())

    def _load(self) -> list[tuple[SigningKey, rsa.RSAPrivateKey]]:
        files = sorted(self._folder.glob("signing-*.pem"))
        if not files:
            files = [self._create()]
        return [self._read(file) for file in files]

    def _create(self) -> Path:
        private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        stamp = format_time(self._clock.now()).replace(":", "")
        file = self._folder / f"signing-{stamp}.pem"
        write_durably(file, pem, mode=0o600)
        return file

    def _read(self, file: Path) -> tuple[SigningKey, rsa.RSAPrivateKey]:
        if file.stat().st_mode & 0o077:
            raise StorageFailed(f"key file {file} is open to others; run: chmod 600 {file}")
        try:
            private = serialization.load_pem_private_key(file.read_bytes(), password=None)
        except (ValueError, TypeError) as error:
            raise StorageFailed(f"key file {file} does not hold a private key: {error}") from error
        if not isinstance(private, rsa.RSAPrivateKey) or private.key_size < _KEY_BITS:
            raise StorageFailed(f"key file {file} is not an RSA key of at least {_KEY_BITS} bits")
        der = private.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.PKCS1
        )
        fingerprint = hashlib.md5(der, usedforsecurity=False).hexdigest()
        valid_from = parse_time(file.stem.removeprefix("signing-"))
        return SigningKey(fingerprint, der, valid_from, valid_from + _VALIDITY), private
