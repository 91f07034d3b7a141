"""Signer on an RSA key in the data directory."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.adapters.files import write_durably
from opentrail.core.errors import StorageFailed
from opentrail.core.event import format_time, parse_time
from opentrail.ports.clock import Clock
from opentrail.ports.signer import SigningKey

log = logging.getLogger(__name__)

_KEY_BITS = 2048
#: How much longer than it signs a key is listed, before and after: verifiers request the keys of a
#: time range, which may end at a rotation, and clocks may be set back (guarantee L8).
_OVERLAP = timedelta(days=1)


class RsaSigner:
    """Stores RSA keys as `signing-<created>.pem` (0600); never removes one.

    The fingerprint is the MD5 of the PKCS#1 DER public key, as AWS's are (cloudtrail-format §5.3).

    Args:
        folder: where the keys are.
        clock: the time.
        lifetime: how long a key signs before a new one replaces it.
    """

    def __init__(self, folder: Path, clock: Clock, lifetime: timedelta) -> None:
        self._folder = folder
        self._clock = clock
        self._lifetime = lifetime
        self._lock = asyncio.Lock()
        self._loaded: list[_PrivateKey] = []

    async def keys(self) -> list[SigningKey]:
        """Returns every key, oldest first."""
        await self.current()
        following = [key.created for key in self._loaded[1:]]
        ends = [*following, self._loaded[-1].created + self._lifetime]
        return [key.listed(end) for key, end in zip(self._loaded, ends, strict=True)]

    async def current(self, moment: datetime | None = None) -> SigningKey:
        """Returns the newest key created by `moment`; creates a new key if the last has expired."""
        async with self._lock:
            if not self._loaded:
                self._loaded = await asyncio.to_thread(self._load)
            if not self._loaded or self._clock.now() >= self._loaded[-1].created + self._lifetime:
                try:
                    self._loaded.append(await asyncio.to_thread(self._made))
                except OSError as error:
                    message = f"no new signing key can be written to {self._folder}: {error}"
                    raise StorageFailed(message) from error
        made = [key for key in self._loaded if moment is None or key.created <= moment]
        chosen = (made or self._loaded[:1])[-1]
        return chosen.listed(chosen.created + self._lifetime)

    async def sign(self, content: bytes, fingerprint: str) -> bytes:
        """Returns the PKCS#1 v1.5 signature over SHA-256 of `content`."""
        await self.current()
        (private,) = (key.private for key in self._loaded if key.fingerprint == fingerprint)
        return await asyncio.to_thread(private.sign, content, padding.PKCS1v15(), hashes.SHA256())

    def _load(self) -> list[_PrivateKey]:
        return [self._read(file) for file in sorted(self._folder.glob("signing-*.pem"))]

    def _made(self) -> _PrivateKey:
        file = self._create()
        key = self._read(file)
        log.info("a new key signs digests", extra={"fingerprint": key.fingerprint})
        return key

    def _create(self) -> Path:
        private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        stamp = format_time(self._clock.now()).replace(":", "")
        file = self._folder / f"signing-{stamp}.pem"
        write_durably(file, pem)
        return file

    def _read(self, file: Path) -> _PrivateKey:
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
        return _PrivateKey(
            parse_time(file.stem.removeprefix("signing-")), fingerprint, der, private
        )


@dataclass(frozen=True, slots=True)
class _PrivateKey:
    """A key and its creation time."""

    created: datetime
    fingerprint: str
    public_der: bytes
    private: rsa.RSAPrivateKey

    def listed(self, end: datetime) -> SigningKey:
        """Returns the public key, valid until `end`."""
        return SigningKey(
            self.fingerprint, self.public_der, self.created - _OVERLAP, end + _OVERLAP
        )
