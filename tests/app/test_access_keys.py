"""The key directory of a server, and its master key, which servers with one store share."""

from __future__ import annotations

import asyncio
import base64
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.access_keys import ControlPlace, control_place, open_keys
from opentrail.app.inventory import mark_for_cluster
from opentrail.core.errors import StorageFailed, UsageError
from opentrail.ports.control import Remove
from opentrail.settings import Settings
from tests.fakes import asynchronous
from tests.postgres import shared_server

ANN = "arn:aws:iam::111122223333:user/ann"


@asynchronous
async def test_lost_master_key_is_not_replaced_by_another(tmp_path: Path) -> None:
    data = DataDirectory(tmp_path / "data")
    data.open()
    place = control_place(Settings(), data)
    control = place.open()
    await (await open_keys(place, control)).create(ANN)
    (data.keys / "master.key").unlink()
    with pytest.raises(StorageFailed, match="is missing, and secrets are sealed by it"):
        await open_keys(place, control)
    await control.close()
    data.close()


def shared_settings() -> Settings:
    """Returns settings of a server with a new control store that can be shared."""
    return Settings(control_store=shared_server().new_database())


@asynccontextmanager
async def started(
    folder: Path, settings: Settings
) -> AsyncIterator[tuple[SqlControl, ControlPlace]]:
    """Opens the control store of a server with a separate data directory."""
    data = DataDirectory(folder)
    data.open()
    place = control_place(settings, data)
    control = place.open()
    try:
        yield control, place
    finally:
        await control.close()
        data.close()


async def key_of(folder: Path, settings: Settings) -> str:
    """Returns the fingerprint of the master key of a starting server."""
    async with started(folder, settings) as (control, place):
        return (await place.sealer(control)).fingerprint


@pytest.mark.slow
@asynchronous
async def test_a_server_with_another_master_key_is_refused(tmp_path: Path) -> None:
    settings = shared_settings()
    first = await key_of(tmp_path / "one", settings)
    with pytest.raises(UsageError, match=f"sealed by master key {first}, and there is no .*two"):
        await key_of(tmp_path / "two", settings)
    assert not (tmp_path / "two/keys/master.key").exists()
    other = await key_of(tmp_path / "two", Settings())
    with pytest.raises(UsageError, match=f"sealed by master key {first}, and .* has {other}"):
        await key_of(tmp_path / "two", settings)
    shutil.copy(tmp_path / "one/keys/master.key", tmp_path / "two/keys/master.key")
    assert await key_of(tmp_path / "two", settings) == first


@pytest.mark.slow
@asynchronous
async def test_the_master_key_may_be_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = shared_settings()
    first = await key_of(tmp_path / "one", settings)
    key = (tmp_path / "one/keys/master.key").read_text()
    monkeypatch.setenv("OPENTRAIL_MASTER_KEY", key)
    assert await key_of(tmp_path / "two", settings) == first
    monkeypatch.setenv("OPENTRAIL_MASTER_KEY", base64.b64encode(b"x" * 32).decode())
    with pytest.raises(UsageError, match="and OPENTRAIL_MASTER_KEY has"):
        await key_of(tmp_path / "two", settings)


@pytest.mark.slow
@asynchronous
async def test_one_new_server_chooses_the_master_key(
    tmp_path: Path,
) -> None:
    settings = shared_settings()
    results = await asyncio.gather(
        *(key_of(tmp_path / str(number), settings) for number in range(4)), return_exceptions=True
    )
    (winner,) = {result for result in results if isinstance(result, str)}
    refused = [result for result in results if not isinstance(result, str)]
    assert all(f"sealed by master key {winner}" in str(error) for error in refused), results
    assert all(isinstance(error, UsageError) for error in refused)


@pytest.mark.slow
@asynchronous
async def test_old_store_accepts_only_its_secrets_key(
    tmp_path: Path,
) -> None:
    settings = shared_settings()
    async with started(tmp_path / "one", settings) as (control, place):
        await (await open_keys(place, control)).create(ANN)
        await control.apply([Remove("shared-key", "master-key")])
    await key_of(tmp_path / "two", Settings())
    with pytest.raises(StorageFailed, match="restore the previous key"):
        await key_of(tmp_path / "two", settings)
    await key_of(tmp_path / "one", settings)
    with pytest.raises(UsageError, match="sealed by master key"):
        await key_of(tmp_path / "two", settings)


@pytest.mark.slow
@asynchronous
async def test_only_a_shared_database_serves_a_cluster(tmp_path: Path) -> None:
    for settings in (Settings(), shared_settings()):
        async with started(tmp_path, settings) as (control, place):
            await place.require_no_cluster(control)
            await mark_for_cluster(control)
            await mark_for_cluster(control)
            if place.in_file:
                await place.require_no_cluster(control)
                continue
            with pytest.raises(UsageError, match="a cluster uses the control store"):
                await place.require_no_cluster(control)
