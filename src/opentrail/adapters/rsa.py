"""Signer on RSA keys in the data directory."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.adapters.files import write_durably
from opentrail.core.errors import SigningKeyUnavailable, StorageFailed
from opentrail.core.event import format_time, parse_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, StoreWrite
from opentrail.ports.signer import SigningKey

log = logging.getLogger(__name__)

_KEY_BITS = 2048
#: How much longer than it signs a key is listed, before and after: verifiers request the keys of a
#: time range, which may end at a rotation, and clocks may be set back (guarantee L8).
_OVERLAP = timedelta(days=1)
#: Kind of documents with the public halves of keys, by the names of their files.
_KIND = "signing-key"


class RsaSigner:
    """Stores RSA keys as `signing-<created>.pem` (0600); never removes one.

    The fingerprint is the MD5 of the PKCS#1 DER public key, as AWS's are (cloudtrail-format §5.3).
    With a control store, it remembers the public halves: a file that is removed, damaged or
    replaced is named, and its key stays listed (guarantee L8).

    Args:
        folder: where the keys are.
        clock: the time.
        lifetime: how long a key signs before a new one replaces it.
        control: where the public halves are remembered.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        lifetime: timedelta,
        control: ControlStore | None = None,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._lifetime = lifetime
        self._control = control
        self._lock = asyncio.Lock()
        #: File name → key. A key that is loaded stays in use if its file is changed.
        self._private: dict[str, _PrivateKey] = {}
        self._known: dict[str, _PublicKey] = {}
        #: File name → why it cannot be used; missing files are left out.
        self._unusable: dict[str, str] = {}
        self._is_loaded = False
        #: What is wrong with the keys, for operators; without paths.
        self.problems: list[str] = []

    async def keys(self) -> list[SigningKey]:
        """Returns every key, oldest first, also those whose files are gone or damaged."""
        try:
            await self.current()
        except StorageFailed as error:
            log.error("digests cannot be signed", extra={"error": str(error)})
        public = {**self._known, **{name: key.public for name, key in self._private.items()}}
        keys = [public[name] for name in sorted(public)]
        ends = [key.created for key in keys[1:]]
        ends += [key.created + self._lifetime for key in keys[-1:]]
        return [key.as_signing_key(end) for key, end in zip(keys, ends, strict=True)]

    async def current(self, moment: datetime | None = None) -> SigningKey:
        """Returns the newest key created by `moment`; creates a new key if the last has expired.

        Raises:
            SigningKeyUnavailable: the file of the newest key is damaged or open to others, or a new
                key cannot be written.
        """
        async with self._lock:
            if not self._is_loaded:
                await self._check()
            newest = max([*self._private, *self._unusable], default="")
            if newest in self._unusable:
                raise SigningKeyUnavailable(self._unusable[newest])
            if not newest or self._clock.now() >= self._private[newest].created + self._lifetime:
                await self._make()
        loaded = [self._private[name] for name in sorted(self._private)]
        candidates = [key for key in loaded if moment is None or key.created <= moment]
        newest_key = (candidates or loaded[:1])[-1]
        return newest_key.public.as_signing_key(newest_key.created + self._lifetime)

    async def sign(self, content: bytes, fingerprint: str) -> bytes:
        """Returns the PKCS#1 v1.5 signature over SHA-256 of `content`."""
        await self.current()
        for key in self._private.values():
            if key.public.fingerprint == fingerprint:
                own = (content, padding.PKCS1v15(), hashes.SHA256())
                return await asyncio.to_thread(key.private.sign, *own)
        raise SigningKeyUnavailable(f"there is no private key of fingerprint {fingerprint}")

    async def check(self) -> list[str]:
        """Compares the files with what is remembered; returns what is wrong, without paths."""
        async with self._lock:
            await self._check()
            return self.problems

    async def _check(self) -> None:
        remembered = await known_keys(self._control) if self._control else dict(self._known)
        folder = await asyncio.to_thread(read_folder, self._folder)
        problems = key_problems(folder, remembered)
        writes: list[StoreWrite] = []
        for name, key in folder.private.items():
            if name in remembered and remembered[name] != key.public:
                continue
            self._private.setdefault(name, key)
            if name not in remembered:
                remembered[name] = key.public
                writes.append(key.public.remembered(name))
        if writes and self._control is not None:
            await self._control.apply(writes)
        replaced = {
            name: f"key file {self._folder / name} does not hold the key that was made"
            for name, key in folder.private.items()
            if remembered[name] != key.public
        }
        unusable = {**folder.unusable, **replaced}
        self._unusable = {n: text for n, text in unusable.items() if n not in self._private}
        self._known, self._is_loaded = remembered, True
        for problem in problems:
            if problem not in self.problems:
                log.error("a signing key is not as it was", extra={"problem": problem})
        self.problems = problems

    async def _make(self) -> None:
        try:
            file, key = await asyncio.to_thread(self._created)
        except OSError as error:
            message = f"no new signing key can be written to {self._folder}: {error}"
            raise SigningKeyUnavailable(message) from error
        if self._control is not None:
            await self._control.apply([key.public.remembered(file.name)])
        self._private[file.name], self._known[file.name] = key, key.public
        log.info("a new key signs digests", extra={"fingerprint": key.public.fingerprint})

    def _created(self) -> tuple[Path, _PrivateKey]:
        private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
        pem = private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        moment = self._clock.now()
        while (name := _name(moment)) in self._known:  # of a file that is gone
            moment += timedelta(seconds=1)
        file = self._folder / name
        write_durably(file, pem)
        return file, _read(file)


@dataclass(frozen=True, slots=True)
class _PublicKey:
    """The public half of a key and its creation time."""

    created: datetime
    fingerprint: str
    public_der: bytes

    def as_signing_key(self, end: datetime) -> SigningKey:
        """Returns the key, valid until `end`."""
        return SigningKey(
            self.fingerprint, self.public_der, self.created - _OVERLAP, end + _OVERLAP
        )

    def remembered(self, name: str) -> Put:
        """Returns the change that remembers the key of a file."""
        document = {
            "fingerprint": self.fingerprint,
            "public": base64.b64encode(self.public_der).decode(),
        }
        return Put(_KIND, name, document)


@dataclass(frozen=True, slots=True)
class _PrivateKey:
    """A key and its public half."""

    public: _PublicKey
    private: rsa.RSAPrivateKey

    @property
    def created(self) -> datetime:
        """When it was made."""
        return self.public.created


@dataclass(slots=True)
class KeyFolder:
    """The key files of a folder, by name."""

    private: dict[str, _PrivateKey] = field(default_factory=dict)
    #: Why a file cannot be used.
    unusable: dict[str, str] = field(default_factory=dict)
    #: Names of keys whose loss is acknowledged by a file `<name>.lost`.
    acknowledged: set[str] = field(default_factory=set)


async def known_keys(control: ControlStore) -> dict[str, _PublicKey]:
    """Returns the keys that a control store remembers, by the names of their files."""
    return {
        entry.key: _PublicKey(
            _created_at(entry.key),
            entry.document["fingerprint"],
            base64.b64decode(entry.document["public"]),
        )
        for entry in await control.scan(_KIND)
    }


def read_folder(folder: Path) -> KeyFolder:
    """Returns what the key files of a folder hold."""
    keys = KeyFolder()
    for file in sorted(folder.glob("signing-*.pem")):
        try:
            keys.private[file.name] = _read(file)
        except (StorageFailed, OSError) as error:
            keys.unusable[file.name] = str(error)
    keys.acknowledged = acknowledged_keys(folder)
    return keys


def acknowledged_keys(folder: Path) -> set[str]:
    """Returns the names of keys whose loss is acknowledged by a file `<name>.lost`."""
    return {file.name.removesuffix(".lost") for file in folder.glob("*.lost")}


def key_problems(keys: KeyFolder, remembered: Mapping[str, _PublicKey]) -> list[str]:
    """Returns what is wrong with key files, compared with what is remembered; without paths."""
    problems = {
        name: f"signing key {name} is missing: put the file back"
        for name in remembered
        if name not in keys.private and name not in keys.acknowledged
    }
    for name in keys.unusable:
        problems[name] = f"signing key {name} is damaged, or open to others"
    for name, key in keys.private.items():
        if name in remembered and remembered[name] != key.public:
            problems[name] = f"signing key {name} is not the key that was made: it was replaced"
    return [problems[name] for name in sorted(problems)]


async def folder_problems(folder: Path, control: ControlStore | None) -> list[str]:
    """Returns what is wrong with the key files of a folder; without paths.

    Args:
        folder: the folder.
        control: the control store that remembers the keys; None if it is elsewhere.
    """
    remembered = await known_keys(control) if control else {}
    return key_problems(await asyncio.to_thread(read_folder, folder), remembered)


def _name(created: datetime) -> str:
    stamp = format_time(created).replace(":", "")
    return f"signing-{stamp}.pem"


def _created_at(name: str) -> datetime:
    return parse_time(name.removesuffix(".pem").removeprefix("signing-"))


def _read(file: Path) -> _PrivateKey:
    """Returns the key in a file.

    Raises:
        StorageFailed: it holds none that may be used.
    """
    if file.stat().st_mode & 0o077:
        raise StorageFailed(f"key file {file} is open to others; run: chmod 600 {file}")
    try:
        created = _created_at(file.name)
        private = serialization.load_pem_private_key(file.read_bytes(), password=None)
    except (ValueError, TypeError) as error:
        raise StorageFailed(f"key file {file} does not hold a private key: {error}") from error
    if not isinstance(private, rsa.RSAPrivateKey) or private.key_size < _KEY_BITS:
        raise StorageFailed(f"key file {file} is not an RSA key of at least {_KEY_BITS} bits")
    der = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    fingerprint = hashlib.md5(der, usedforsecurity=False).hexdigest()
    return _PrivateKey(_PublicKey(created, fingerprint, der), private)
