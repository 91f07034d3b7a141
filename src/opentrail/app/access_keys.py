"""The control store of a server, its key directory, and the keys that servers share in it."""

from __future__ import annotations

import os
import secrets
from typing import Any

from opentrail.access.keys import KEY_KIND, KeyDirectory
from opentrail.adapters.control_store import SqlControl
from opentrail.adapters.files import DataDirectory
from opentrail.adapters.sealing import MASTER_KEY_VARIABLE, AesGcmSealer, load_master_key
from opentrail.adapters.system import SystemClock
from opentrail.core.errors import UsageError
from opentrail.ports.collection import retry_on_conflict
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.signer import Sealer
from opentrail.settings import Settings

#: Kind of the documents on which all servers of a control store agree.
_SHARED = "shared-key"
_MASTER = "master-key"
_SECRET_BYTES = 32


def is_shared(settings: Settings) -> bool:
    """Returns whether other servers may use the same control store."""
    return settings.control_store != "sqlite"


def open_control(settings: Settings, data: DataDirectory) -> SqlControl:
    """Returns the control store: a file of the data directory, or a database.

    Raises:
        UsageError, StorageFailed, DataTooNew: as `SqlControl`.
    """
    if is_shared(settings):
        return SqlControl(settings.control_store)
    return SqlControl.in_file(data.state)


async def open_sealer(
    settings: Settings, control: ControlStore, data: DataDirectory
) -> AesGcmSealer:
    """Returns what seals secrets; its master key is created while nothing is sealed.

    All servers that share a control store must have the same master key.

    Raises:
        UsageError: the master key is not valid, or not that of the shared control store.
        StorageFailed: the master key cannot be used.
    """
    file, variable = data.keys / "master.key", os.environ.get(MASTER_KEY_VARIABLE)
    has_keys = bool(await control.scan(KEY_KIND))
    if not is_shared(settings):
        return AesGcmSealer(load_master_key(file, variable, may_create=not has_keys))
    stored = await control.get(_SHARED, _MASTER)
    if stored is not None and not variable and not file.exists():
        raise UsageError(
            f"the control store is sealed by master key {stored.document['fingerprint']}, and there"
            f" is no {file}: copy it from a server that uses this control store, or set "
            f"{MASTER_KEY_VARIABLE}"
        )
    sealer = AesGcmSealer(load_master_key(file, variable, may_create=not has_keys))
    if stored is None:
        # A store of an earlier version has no fingerprint: what is sealed must fit.
        await KeyDirectory(control, sealer, SystemClock()).load()
    agreed = await _agree(control, _MASTER, {"fingerprint": sealer.fingerprint})
    if agreed["fingerprint"] != sealer.fingerprint:
        source = MASTER_KEY_VARIABLE if variable else file
        raise UsageError(
            f"the control store is sealed by master key {agreed['fingerprint']}, and {source} has "
            f"{sealer.fingerprint}: use the key of a server that uses this control store"
        )
    return sealer


async def open_keys(
    settings: Settings,
    control: ControlStore,
    data: DataDirectory,
    sealer: Sealer | None = None,
) -> KeyDirectory:
    """Returns the key directory, loaded; without a sealer, that of `open_sealer` unseals it.

    Raises:
        UsageError, StorageFailed: as `open_sealer`.
    """
    sealer = sealer or await open_sealer(settings, control, data)
    keys = KeyDirectory(control, sealer, SystemClock())
    await keys.load()
    return keys


async def shared_secret(control: ControlStore, sealer: Sealer, name: str) -> bytes:
    """Returns 32 random bytes that all servers of a control store have under this name.

    Raises:
        StorageFailed: what is stored was changed.
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
