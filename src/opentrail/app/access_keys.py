"""The control store and the key directory of a data directory."""

from __future__ import annotations

import os

from opentrail.access.keys import KeyDirectory
from opentrail.adapters.files import DataDirectory
from opentrail.adapters.sealing import MASTER_KEY_VARIABLE, AesGcmSealer, load_master_key
from opentrail.adapters.sql import SqlControl
from opentrail.adapters.system import SystemClock
from opentrail.settings import Settings


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


async def open_keys(control: SqlControl, data: DataDirectory) -> KeyDirectory:
    """Returns the key directory, loaded; its master key is created if there are neither.

    Raises:
        UsageError, StorageFailed: the master key cannot be used.
    """
    has_keys = bool(await control.scan("access-key"))
    variable = os.environ.get(MASTER_KEY_VARIABLE)
    master_key = load_master_key(data.keys / "master.key", variable, may_create=not has_keys)
    keys = KeyDirectory(control, AesGcmSealer(master_key), SystemClock())
    await keys.load()
    return keys
