"""The key directory of a data directory, and its master key."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.adapters.files import DataDirectory
from opentrail.app.access_keys import open_control, open_keys
from opentrail.core.errors import StorageFailed
from opentrail.settings import Settings
from tests.fakes import asynchronous

ANN = "arn:aws:iam::111122223333:user/ann"


@asynchronous
async def test_a_lost_master_key_is_not_replaced_by_another(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.open()
    control = open_control(Settings(), data)
    await (await open_keys(control, data)).create(ANN)
    (data.keys / "master.key").unlink()
    with pytest.raises(StorageFailed, match="is missing, and secrets are sealed by it"):
        await open_keys(control, data)
    await control.close()
    data.close()
