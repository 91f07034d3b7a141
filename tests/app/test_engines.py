"""The engines of a server: opened on a data directory, closed, and opened again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

from opentrail.adapters.files import DataDirectory
from opentrail.app.engines import Engines, open_engines
from opentrail.settings import Settings
from tests.factories import a_new_entry
from tests.fakes import asynchronous

KEY = "AKIAIOSFODNN7EXAMPLE"
SETTINGS = Settings(upstream={"": "http://127.0.0.1:9"})


@asynccontextmanager
async def opened(folder: Path, settings: Settings = SETTINGS) -> AsyncIterator[Engines]:
    data = DataDirectory(folder)
    data.open()
    async with AsyncExitStack() as stack:
        stack.callback(data.close)
        failures: list[str] = []
        yield await open_engines(stack, replace(settings, data_dir=folder), data, failures.append)
    assert failures == []


@asynchronous
async def test_what_was_recorded_is_there_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        assert engines.journal.head == 0
        await engines.journal.append([a_new_entry(), a_new_entry()])
    async with opened(tmp_path) as engines:
        assert engines.journal.head == 2
        assert len(await engines.journal.read(0, 10)) == 2
        assert engines.losses.empty()


@asynchronous
async def test_a_journal_that_is_gone_is_a_loss(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        await engines.journal.append([a_new_entry(), a_new_entry()])
    for file in (tmp_path / "journal").iterdir():
        file.unlink()
    async with opened(tmp_path) as engines:
        lost = engines.losses.get_nowait()
        assert (lost.first, lost.last) == (1, 2)
        assert await engines.journal.append([a_new_entry()]) == 3


@asynchronous
async def test_keys_of_the_control_store_are_in_the_settings(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        assert engines.settings.directory == {}
        await engines.named_keys.put(KEY, {"user": "mary", "account": "111122223333"})
    async with opened(tmp_path) as engines:
        assert list(engines.settings.directory) == [KEY]
        assert engines.identities.resolve(KEY).account == "111122223333"
