"""Sealer with AES-256-GCM; the master key is in a file or in the environment."""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from opentrail.adapters.data_directory.files import sync_folder, write_durably
from opentrail.core.errors import StorageFailed, UsageError

#: Environment variable with a master key: base64 of 32 bytes.
MASTER_KEY_VARIABLE = "OPENTRAIL_MASTER_KEY"
_KEY_BYTES, _NONCE_BYTES = 32, 12
_VERSION = "v1"


class AesGcmSealer:
    """Seals as `v1.<master key's fingerprint>.<base64 of nonce and ciphertext>`.

    Nonces are random; the context is the associated data.
    """

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(master_key)
        self.fingerprint = _fingerprint(master_key)

    def seal(self, plain: bytes, context: str) -> str:
        """Returns a string that reveals only the length of `plain`."""
        nonce = os.urandom(_NONCE_BYTES)
        content = nonce + self._cipher.encrypt(nonce, plain, context.encode())
        return f"{_VERSION}.{self.fingerprint}.{base64.b64encode(content).decode()}"

    def unseal(self, sealed: str, context: str) -> bytes:
        """Returns the unsealed content."""
        version, _, rest = sealed.partition(".")
        fingerprint, _, text = rest.partition(".")
        if version != _VERSION:
            raise StorageFailed(f"the secret of {context} is not sealed in form {_VERSION}")
        if fingerprint != self.fingerprint:
            raise StorageFailed(
                f"the secret of {context} was sealed by master key {fingerprint!r}, the present "
                f"one is {self.fingerprint!r}: restore the previous key"
            )
        try:
            content = base64.b64decode(text, validate=True)
            return self._cipher.decrypt(
                content[:_NONCE_BYTES], content[_NONCE_BYTES:], context.encode()
            )
        except (binascii.Error, ValueError, InvalidTag) as error:
            raise StorageFailed(f"the sealed secret of {context} was changed") from error


def load_master_key(file: Path, encoded_key: str | None, may_create: bool) -> bytes:
    """Returns the master key.

    Args:
        file: its file, if `encoded_key` is None; only the owner may read it.
        encoded_key: base64 of the key, from `MASTER_KEY_VARIABLE`.
        may_create: whether to create a missing key: only while nothing is sealed.

    Raises:
        UsageError: `encoded_key` is not a key.
        StorageFailed: the file is missing, not a key, or readable by others.
    """
    if encoded_key:
        key = _decoded(encoded_key)
        if key is None:
            raise UsageError(f"{MASTER_KEY_VARIABLE} must be base64 of {_KEY_BYTES} bytes")
        return key
    try:
        if may_create and not file.exists():
            _create(file)
        mode = stat.S_IMODE(file.stat().st_mode)
        if mode & 0o077:
            raise StorageFailed(
                f"master key {file} may be read by others (mode {mode:o}): chmod 600 {file}"
            )
        key = _decoded(file.read_text("latin-1"))
    except FileNotFoundError as error:
        raise StorageFailed(
            f"master key {file} is missing, and secrets are sealed by it: restore the file, or set "
            f"{MASTER_KEY_VARIABLE}"
        ) from error
    except OSError as error:
        raise StorageFailed(f"master key {file} cannot be used: {error}") from error
    if key is None:
        raise StorageFailed(f"{file} is not a master key: base64 of {_KEY_BYTES} bytes")
    return key


def master_key_in(file: Path) -> str | None:
    """Returns the fingerprint of a file's master key; '' for an invalid file, None without a file.

    Raises:
        OSError: it cannot be read.
    """
    try:
        key = _decoded(file.read_text("latin-1"))
    except FileNotFoundError:
        return None
    return _fingerprint(key) if key else ""


def _fingerprint(master_key: bytes) -> str:
    """Returns an id of the master key that does not reveal the key."""
    return hashlib.sha256(b"opentrail master key\0" + master_key).hexdigest()[:16]


def _create(file: Path) -> None:
    """Creates a master key; concurrent processes end up with the same one."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = file.with_name(f".{file.name}.{os.urandom(8).hex()}")
    write_durably(temporary, base64.b64encode(os.urandom(_KEY_BYTES)) + b"\n")
    try:
        with contextlib.suppress(FileExistsError):
            file.hardlink_to(temporary)
    finally:
        temporary.unlink()
    sync_folder(file.parent)


def _decoded(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if len(key) == _KEY_BYTES else None
