"""The site of a server without a cluster, for tests of its users."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.cluster.site import OneServer
from opentrail.app.inventory import DataInventory
from opentrail.settings import Settings

Kind = TypeVar("Kind", bound=OneServer)


def alone(folder: Path, kind: type[Kind] = OneServer) -> Kind:  # type: ignore[assignment]
    """Returns the site of a server with a data directory, without opening it."""
    data = DataDirectory(folder)
    control = SqlControl.in_file(data.state)
    inventory = DataInventory(data, control, in_file=True)
    return kind(Settings(data_dir=folder), control, data, inventory)
