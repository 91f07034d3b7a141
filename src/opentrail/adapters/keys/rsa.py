"""Signer on RSA keys: in files of the data directory, or sealed in a shared control store."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from opentrail.adapters.data_directory.files import write_durably
from opentrail.core.errors import Conflict, SigningKeyUnavailable, StorageFailed
from opentrail.core.event import format_time, parse_time
from opentrail.ports.clock import Clock
from opentrail.ports.control import ControlStore, Put, StoreWrite
from opentrail.ports.signer import Sealer, SigningKey

log = logging.getLogger(__name__)

_KEY_BITS = 2048
#: Time that a key stays listed before and after it signs: verifiers request the keys of a time
#: range, which may end at a rotation, and clocks may be set back (guarantee L8).
_OVERLAP = timedelta(days=1)
#: Kind of documents with the public halves of keys, by name.
_KIND = "signing-key"
#: Kind of documents with private keys, sealed.
_SEALED_KIND = "sealed-signing-key"
#: Kind and key of the document that changes with each new key, so that only one of several servers
#: makes it.
_NEWEST = "newest-signing-key"
#: The document that other servers change when they make a key.
SHARED_KINDS = (_KIND, _SEALED_KIND)
#: Maximum attempts when servers make keys concurrently.
_MAX_ATTEMPTS = 10


class RsaSigner:
    """Stores RSA keys as `signing-<created>.pem`; never removes one.

    The fingerprint is the MD5 of the PKCS#1 DER public key, as AWS's are (cloudtrail-format §5.3).
    With a control store, it remembers the public halves: it reports a removed, damaged or replaced
    private key, and still lists its public half (guarantee L8).

    Args:
        folder: folder of the key files (0600).
        clock: the time.
        lifetime: time that a key signs before a new one replaces it.
        control: the store that remembers the public halves.
        sealer: seals private keys, which are then in the control store instead of files, the same
            for all servers that share it.
    """

    def __init__(
        self,
        folder: Path,
        clock: Clock,
        lifetime: timedelta,
        control: ControlStore | None = None,
        sealer: Sealer | None = None,
    ) -> None:
        self._place: _KeyPlace = (
            _SealedKeys(control, sealer, folder)
            if control is not None and sealer is not None
            else _KeyFiles(folder, control)
        )
        self._clock = clock
        self._lifetime = lifetime
        self._control = control
        self._lock = asyncio.Lock()
        #: Name → key. A loaded key stays in use if its stored copy changes.
        self._private: dict[str, _PrivateKey] = {}
        self._known: dict[str, _PublicKey] = {}
        #: Name → why a key cannot be used; missing keys are omitted.
        self._unusable: dict[str, str] = {}
        self._is_loaded = False
        #: Problems of the keys, for operators; without paths.
        self.problems: list[str] = []

    async def keys(self) -> list[SigningKey]:
        """Returns every key, oldest first, including keys with a lost or damaged private half."""
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
        """Returns the newest key as of `moment`; creates a new one if the last has expired.

        Raises:
            SigningKeyUnavailable: the newest key is damaged or readable by others, or a new key
                cannot be written.
        """
        async with self._lock:
            if not self._is_loaded:
                await self._check()
            await self._renew()
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
        """Compares the keys with the remembered ones; returns the problems, without paths."""
        async with self._lock:
            await self._check()
            return self.problems

    async def _check(self) -> None:
        recorded = await known_keys(self._control) if self._control else dict(self._known)
        # A listed key stays listed, even after it disappears from the control store.
        remembered = {**self._known, **recorded}
        stored = await self._place.read()
        problems = key_problems(stored, remembered)
        writes: list[StoreWrite] = []
        for name, key in stored.private.items():
            if name in remembered and remembered[name] != key.public:
                continue
            self._private.setdefault(name, key)
            remembered.setdefault(name, key.public)
            if name not in recorded:
                writes.append(key.public.remembered(name))
        if writes and self._control is not None:
            await self._control.apply(writes)
        replaced = {
            name: f"signing key {name} is not the key that was made: {stored.remedy}"
            for name, key in stored.private.items()
            if remembered[name] != key.public
        }
        unusable = {**stored.unusable, **replaced}
        self._unusable = {n: text for n, text in unusable.items() if n not in self._private}
        self._known, self._is_loaded = remembered, True
        for problem in problems:
            if problem not in self.problems:
                log.error("signing key changed or missing", extra={"problem": problem})
        self.problems = problems

    async def _renew(self) -> None:
        """Creates a key if the last one has expired, unless another server creates it."""
        for _ in range(_MAX_ATTEMPTS):
            newest = max([*self._private, *self._unusable], default="")
            if newest in self._unusable:
                raise SigningKeyUnavailable(self._unusable[newest])
            if newest and self._clock.now() < self._private[newest].created + self._lifetime:
                return
            try:
                await self._make()
            except Conflict:
                await self._check()  # another server was faster
        raise SigningKeyUnavailable("signing keys are being made by other servers; try again")

    async def _make(self) -> None:
        moment = self._clock.now()
        while (name := _name(moment)) in self._known:  # of a missing key
            moment += timedelta(seconds=1)
        pem = await asyncio.to_thread(_new_pem)
        key = _parsed(name, pem)
        await self._place.add(name, pem, key)
        self._private[name], self._known[name] = key, key.public
        log.info("a new key signs digests", extra={"fingerprint": key.public.fingerprint})


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
        """Returns the change that remembers the key."""
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
class StoredKeys:
    """Private keys, by name."""

    private: dict[str, _PrivateKey] = field(default_factory=dict)
    #: Why a key cannot be used.
    unusable: dict[str, str] = field(default_factory=dict)
    #: Names of keys with a loss acknowledged by a file `<name>.lost`.
    acknowledged: set[str] = field(default_factory=set)
    #: The possible causes of an unusable key, and the remedy for a missing one.
    damage: str = "damaged, or open to others"
    remedy: str = "put the file back"


class _KeyPlace(Protocol):
    """Where private keys are stored."""

    async def read(self) -> StoredKeys:
        """Return the keys."""
        ...

    async def add(self, name: str, pem: bytes, key: _PrivateKey) -> None:
        """Return once a new key is durable.

        Raises:
            Conflict: another server has made a key since the keys were read.
            SigningKeyUnavailable: it cannot be written.
        """
        ...


class _KeyFiles:
    """Private keys in files that only their owner can read."""

    def __init__(self, folder: Path, control: ControlStore | None) -> None:
        self._folder = folder
        self._control = control

    async def read(self) -> StoredKeys:
        return await asyncio.to_thread(read_folder, self._folder)

    async def add(self, name: str, pem: bytes, key: _PrivateKey) -> None:
        try:
            await asyncio.to_thread(write_durably, self._folder / name, pem)
        except OSError as error:
            message = f"no new signing key can be written to {self._folder}: {error}"
            raise SigningKeyUnavailable(message) from error
        if self._control is not None:
            await self._control.apply([key.public.remembered(name)])


class _SealedKeys:
    """Private keys in the shared control store, sealed by its master key."""

    def __init__(self, control: ControlStore, sealer: Sealer, folder: Path) -> None:
        self._control = control
        self._sealer = sealer
        #: Where the server had keys in files before it shared a control store.
        self._folder = folder
        self._has_read_files = False
        #: The version of the document `_NEWEST` when the keys were last read.
        self._version = 0

    async def read(self) -> StoredKeys:
        # Before the keys: the next conflict reveals a key made in between.
        newest = await self._control.get(_NEWEST, _NEWEST)
        self._version = newest.version if newest else 0
        keys = await self._sealed_keys()
        if not self._has_read_files:
            await self._import_files(keys)
            self._has_read_files = True
        return keys

    async def _sealed_keys(self) -> StoredKeys:
        acknowledged = await asyncio.to_thread(acknowledged_keys, self._folder)
        keys = StoredKeys(
            acknowledged=acknowledged, damage="damaged", remedy="restore the control store"
        )
        for row in await self._control.scan(_SEALED_KIND):
            try:
                pem = self._sealer.unseal(row.document["sealed"], _context(row.key))
                keys.private[row.key] = _parsed(row.key, pem)
            except StorageFailed as error:
                keys.unusable[row.key] = str(error)
        return keys

    async def _import_files(self, keys: StoredKeys) -> None:
        """Adds the keys in files to the control store, and to `keys`."""
        remembered = await known_keys(self._control)
        files = await asyncio.to_thread(read_folder, self._folder)
        for name, text in files.unusable.items():
            if name not in keys.private:
                keys.unusable.setdefault(name, text)
        for name, key in files.private.items():
            if name in keys.private or name in keys.unusable:
                continue
            keys.private[name] = key
            if remembered.get(name, key.public) != key.public:
                continue  # not this name's key: the check reports it
            pem = await asyncio.to_thread((self._folder / name).read_bytes)
            with contextlib.suppress(Conflict):  # another server has the same file
                await self._control.apply([self._sealed(name, pem), key.public.remembered(name)])
            stored = (await self._sealed_keys()).private.get(name)
            if stored is None or stored.public != key.public:
                raise SigningKeyUnavailable(f"signing key {name} could not be stored")
            log.info(
                "a signing key was copied from its file to the control store",
                extra={"key": name, "fingerprint": key.public.fingerprint},
            )

    async def add(self, name: str, pem: bytes, key: _PrivateKey) -> None:
        newest = Put(_NEWEST, _NEWEST, {"name": name}, expected=self._version)
        await self._control.apply([newest, self._sealed(name, pem), key.public.remembered(name)])
        self._version += 1

    def _sealed(self, name: str, pem: bytes) -> Put:
        document = {"sealed": self._sealer.seal(pem, _context(name))}
        return Put(_SEALED_KIND, name, document, expected=0)


async def known_keys(control: ControlStore) -> dict[str, _PublicKey]:
    """Returns the remembered public halves in a control store, by name."""
    return {
        entry.key: _PublicKey(
            _created_at(entry.key),
            entry.document["fingerprint"],
            base64.b64decode(entry.document["public"]),
        )
        for entry in await control.scan(_KIND)
    }


def read_folder(folder: Path) -> StoredKeys:
    """Returns the content of a folder's key files."""
    keys = StoredKeys()
    for file in sorted(folder.glob("signing-*.pem")):
        try:
            keys.private[file.name] = _read(file)
        except (StorageFailed, OSError) as error:
            keys.unusable[file.name] = str(error)
    keys.acknowledged = acknowledged_keys(folder)
    return keys


def acknowledged_keys(folder: Path) -> set[str]:
    """Returns the names of keys with a loss acknowledged by a file `<name>.lost`."""
    return {file.name.removesuffix(".lost") for file in folder.glob("*.lost")}


def key_problems(keys: StoredKeys, remembered: Mapping[str, _PublicKey]) -> list[str]:
    """Returns the differences between keys and the remembered ones; without paths."""
    problems = {
        name: f"signing key {name} is missing: {keys.remedy}"
        for name in remembered
        if name not in keys.private and name not in keys.acknowledged
    }
    for name in keys.unusable:
        problems[name] = f"signing key {name} is {keys.damage}"
    for name, key in keys.private.items():
        if name in remembered and remembered[name] != key.public:
            problems[name] = f"signing key {name} is not the key that was made: it was replaced"
    return [problems[name] for name in sorted(problems)]


async def folder_problems(folder: Path, control: ControlStore | None) -> list[str]:
    """Returns the problems of a folder's key files; without paths.

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


def _context(name: str) -> str:
    """Returns the context that a sealed key is bound to."""
    return f"signing key {name}"


def _new_pem() -> bytes:
    private = rsa.generate_private_key(public_exponent=65537, key_size=_KEY_BITS)
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _read(file: Path) -> _PrivateKey:
    """Returns the key in a file.

    Raises:
        StorageFailed: it holds no usable key.
    """
    if file.stat().st_mode & 0o077:
        raise StorageFailed(f"key file {file} is open to others; run: chmod 600 {file}")
    return _parsed(file.name, file.read_bytes(), f"key file {file}")


def _parsed(name: str, pem: bytes, source: str | None = None) -> _PrivateKey:
    """Returns a key of a name.

    Args:
        name: the key's name, which has its time of creation.
        pem: the private key in PEM form.
        source: its origin, for messages.

    Raises:
        StorageFailed: the key may not be used.
    """
    source = source or f"signing key {name}"
    try:
        created = _created_at(name)
        private = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as error:
        raise StorageFailed(f"{source} does not hold a private key: {error}") from error
    if not isinstance(private, rsa.RSAPrivateKey) or private.key_size < _KEY_BITS:
        raise StorageFailed(f"{source} is not an RSA key of at least {_KEY_BITS} bits")
    der = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.PKCS1
    )
    fingerprint = hashlib.md5(der, usedforsecurity=False).hexdigest()
    return _PrivateKey(_PublicKey(created, fingerprint, der), private)
