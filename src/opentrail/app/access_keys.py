"""The control store of a server, its key directory, and the keys that servers share in it."""

from __future__ import annotations

import asyncio
import os
import secrets
from pathlib import Path
from typing import Any, Protocol

from opentrail.access.keys import KEY_KIND, KeyDirectory
from opentrail.adapters.data_directory.backup import copy_database
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.keys.sealing import MASTER_KEY_VARIABLE, AesGcmSealer, load_master_key
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.inventory import require_no_cluster
from opentrail.core.errors import UsageError
from opentrail.ports.collection import retry_on_conflict
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.signer import Sealer
from opentrail.settings import Settings

#: Kind of the documents on which all servers of a control store agree.
_SHARED = "shared-key"
_MASTER = "master-key"
_SECRET_BYTES = 32


class ControlPlace(Protocol):
    """The place of a data directory's control store; see `control_place`."""

    #: Whether it is a file of the data directory.
    in_file: bool

    def open(self) -> SqlControl:
        """Return the control store.

        Raises:
            UsageError, StorageFailed, DataTooNew: as `SqlControl`.
        """
        ...

    async def check(self, control: SqlControl) -> Sealer | None:
        """Verify the control store, and return the sealer of its servers' secrets.

        Returns:
            None: only this server uses it.

        Raises:
            UsageError, StorageFailed: as `sealer`.
        """
        ...

    async def sealer(self, control: ControlStore) -> AesGcmSealer:
        """Return the sealer of secrets; creates its master key if nothing is sealed yet.

        All servers that share a control store must have the same master key.

        Raises:
            UsageError: the master key is invalid, or differs from the shared control store's.
            StorageFailed: the master key cannot be used.
        """
        ...

    async def require_no_cluster(self, control: ControlStore) -> None:
        """Return if a server with a separate journal may use the control store.

        Raises:
            UsageError: a cluster uses it.
        """
        ...

    def copy_to(self, file: Path) -> None:
        """Copy the control store into a new file, while servers use it."""
        ...

    def restore(self) -> None:
        """Move the file of the data directory to this place."""
        ...


class ControlInFile:
    """The control store is a file of the data directory."""

    in_file = True

    def __init__(self, _settings: Settings, data: DataDirectory) -> None:
        self._data = data

    def open(self) -> SqlControl:
        """Returns the file."""
        return SqlControl.in_file(self._data.state)

    async def check(self, control: SqlControl) -> None:
        """Verifies the file."""
        await control.check()

    async def sealer(self, control: ControlStore) -> AesGcmSealer:
        """Returns a sealer with the key of the data directory."""
        return _sealer_in(self._data, has_keys=bool(await control.scan(KEY_KIND)))

    async def require_no_cluster(self, _control: ControlStore) -> None:
        """Does nothing: no cluster uses a file."""

    def copy_to(self, file: Path) -> None:
        """Copies the file."""
        copy_database(self._data.state, file)

    def restore(self) -> None:
        """Does nothing: the file is already here."""


class ControlInDatabase:
    """The control store is a database that other servers may use."""

    in_file = False

    def __init__(self, settings: Settings, data: DataDirectory) -> None:
        self._url, self._data = settings.control_store, data

    def open(self) -> SqlControl:
        """Returns the tables."""
        return SqlControl(self._url)

    async def check(self, control: SqlControl) -> AesGcmSealer:
        """Returns the verified sealer."""
        return await self.sealer(control)

    async def sealer(self, control: ControlStore) -> AesGcmSealer:
        """Returns a sealer with the key on which all servers agree."""
        file, variable = _master_key_of(self._data)
        has_keys = bool(await control.scan(KEY_KIND))
        stored = await control.get(_SHARED, _MASTER)
        if stored is not None and not variable and not file.exists():
            raise UsageError(
                f"the control store is sealed by master key {stored.document['fingerprint']}, and "
                f"there is no {file}: copy it from a server that uses this control store, or set "
                f"{MASTER_KEY_VARIABLE}"
            )
        sealer = _sealer_in(self._data, has_keys)
        if stored is None:
            # A store of an earlier version has no fingerprint: the key must unseal its secrets.
            await KeyDirectory(control, sealer, SystemClock()).load()
        agreed = await _agree(control, _MASTER, {"fingerprint": sealer.fingerprint})
        if agreed["fingerprint"] != sealer.fingerprint:
            source = MASTER_KEY_VARIABLE if variable else file
            raise UsageError(
                f"the control store is sealed by master key {agreed['fingerprint']}, and {source} "
                f"has {sealer.fingerprint}: use the key of a server that uses this control store"
            )
        return sealer

    async def require_no_cluster(self, control: ControlStore) -> None:
        """Returns if no cluster uses the tables."""
        await require_no_cluster(control)

    def copy_to(self, file: Path) -> None:
        """Copies the tables."""
        asyncio.run(_copy(self.open(), SqlControl.in_file(file)))

    def restore(self) -> None:
        """Moves the file into empty tables."""
        file = self._data.state
        asyncio.run(_copy(SqlControl.in_file(file), self.open()))
        for path in file.parent.glob(f"{file.name}*"):
            path.unlink()


def control_place(settings: Settings, data: DataDirectory) -> ControlPlace:
    """Returns the control store's place from the settings."""
    kind = ControlInFile if settings.control_store == "sqlite" else ControlInDatabase
    return kind(settings, data)


def _master_key_of(data: DataDirectory) -> tuple[Path, str | None]:
    """Returns the file of the master key, and the key in the environment."""
    return data.keys / "master.key", os.environ.get(MASTER_KEY_VARIABLE)


def _sealer_in(data: DataDirectory, has_keys: bool) -> AesGcmSealer:
    return AesGcmSealer(load_master_key(*_master_key_of(data), may_create=not has_keys))


async def _copy(source: SqlControl, target: SqlControl) -> None:
    try:
        await source.copy_into(target)
    finally:
        await target.close()
        await source.close()


async def open_keys(
    place: ControlPlace, control: ControlStore, sealer: Sealer | None = None
) -> KeyDirectory:
    """Returns the loaded key directory; without a sealer, the place's sealer unseals it.

    Raises:
        UsageError, StorageFailed: as `ControlPlace.sealer`.
    """
    keys = KeyDirectory(control, sealer or await place.sealer(control), SystemClock())
    await keys.load()
    return keys


async def shared_secret(control: ControlStore, sealer: Sealer, name: str) -> bytes:
    """Returns 32 random bytes that all servers of a control store have under this name.

    Raises:
        StorageFailed: the stored bytes were changed.
    """
    context = f"shared key {name}"
    sealed = sealer.seal(secrets.token_bytes(_SECRET_BYTES), context)
    agreed = await _agree(control, name, {"sealed": sealed})
    return sealer.unseal(agreed["sealed"], context)


async def _agree(control: ControlStore, key: str, document: dict[str, Any]) -> dict[str, Any]:
    """Returns the shared document of a key: this one, unless another server was faster."""

    async def attempt() -> dict[str, Any]:
        stored = await control.get(_SHARED, key)
        if stored is not None:
            return stored.document
        await control.apply([Put(_SHARED, key, document, expected=0)])
        return document

    return await retry_on_conflict(attempt, f"{key} is being changed by others; try again")
