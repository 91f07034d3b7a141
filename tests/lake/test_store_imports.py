"""The documents of imports survive concurrent changes."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from opentrail.core.errors import CloudTrailError
from opentrail.lake.store_imports import ImportFailure
from tests.adapters.duckdb.test_store_files import a_store
from tests.fakes import asynchronous
from tests.lake.test_store_importer import World


@asynchronous
async def test_concurrent_starts_make_one_import() -> None:
    world = World()
    await world.store()
    results = await asyncio.gather(world.start(), world.start(), return_exceptions=True)
    refused = [each for each in results if isinstance(each, CloudTrailError)]
    assert [each.code for each in refused] == ["AccountHasOngoingImportException"]
    assert len(await world.imports.ongoing()) == 1


@asynchronous
async def test_progress_of_a_stopped_import_is_noted() -> None:
    world = World()
    started = await world.start()
    await world.imports.stop(started)
    failure = ImportFailure("s3://my-bucket/a", "a", "FAILED", "AccessDenied", "no", 1.0)
    changed = await world.imports.change(
        started, lambda c: replace(c, files=c.files + 1), [failure]
    )
    assert (changed.status, changed.files) == ("STOPPED", 1)
    assert await world.imports.failures(started) == [failure]


@asynchronous
async def test_import_into_a_store_blocks_its_deletion() -> None:
    world = World()
    started, store = await world.start(), await world.store()
    with pytest.raises(CloudTrailError, match=started.id) as error:
        await world.imports.check_none_into(store)
    assert error.value.code == "EventDataStoreHasOngoingImportException"
    await world.imports.check_none_into(a_store(id="1" * 36))
    await world.imports.stop(started)
    await world.imports.check_none_into(store)
