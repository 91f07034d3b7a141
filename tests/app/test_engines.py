"""The engines of a server: opened on a data directory, closed, and opened again."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.keys.sealing import MASTER_KEY_VARIABLE
from opentrail.app.core import start_history
from opentrail.app.engines import Engines, open_engines
from opentrail.core.errors import CloudTrailError, UsageError
from opentrail.core.event import format_time
from opentrail.history.event_history import Search
from opentrail.settings import Settings
from tests.factories import a_new_entry, some_records
from tests.fakes import TIMEOUT_SECONDS, asynchronous
from tests.postgres import shared_server

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


@pytest.mark.slow
@asynchronous
async def test_files_without_their_package_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, base64.b64encode(bytes(32)).decode())
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    url = shared_server().new_database()
    shared = replace(SETTINGS, journal=url, control_store=url, files="s3://history")
    with pytest.raises(UsageError, match="--files needs the package fsspec: "):
        async with opened(tmp_path, shared):
            pass


@pytest.mark.slow
@asynchronous
async def test_shared_journal_has_no_size_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MASTER_KEY_VARIABLE, base64.b64encode(bytes(32)).decode())
    url = shared_server().new_database()
    shared = replace(SETTINGS, journal=url, control_store=url)
    for limited in (replace(shared, history_size=10**9), replace(shared, data_event_days=7)):
        with pytest.raises(UsageError, match="accept neither --history-size nor"):
            async with opened(tmp_path, limited):
                pass


@asynchronous
async def test_recorded_events_are_restored(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        assert engines.journal.head == 0
        await engines.journal.append([a_new_entry(), a_new_entry()])
    async with opened(tmp_path) as engines:
        assert engines.journal.head == 2
        assert len(await engines.journal.read(0, 10)) == 2
        assert engines.losses.empty()


@asynchronous
async def test_a_deleted_journal_is_a_loss(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        await engines.journal.append([a_new_entry(), a_new_entry()])
    for file in (tmp_path / "journal").iterdir():
        file.unlink()
    async with opened(tmp_path) as engines:
        lost = engines.losses.get_nowait()
        assert (lost.first, lost.last) == (1, 2)
        assert await engines.journal.append([a_new_entry()]) == 3


@asynchronous
async def test_settings_include_the_control_stores_keys(tmp_path: Path) -> None:
    async with opened(tmp_path) as engines:
        assert engines.settings.directory == {}
        await engines.named_keys.put(KEY, {"user": "mary", "account": "111122223333"})
    async with opened(tmp_path) as engines:
        assert list(engines.settings.directory) == [KEY]
        assert engines.identities.resolve(KEY).account == "111122223333"


async def record(engines: Engines, records: Sequence[dict[str, Any]]) -> None:
    """Returns once the records are in event history."""
    for each in records:
        await engines.journal.append([a_new_entry(each, recorded_at=engines.clock.now())])
    async with asyncio.timeout(TIMEOUT_SECONDS):
        await engines.history.follower.until_visible(engines.journal.head)


@pytest.mark.slow
@asynchronous
async def test_servers_with_one_control_store_share_page_tokens(
    tmp_path: Path,
) -> None:
    shared = replace(SETTINGS, control_store=shared_server().new_database())
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(opened(tmp_path / "one", shared))
        (tmp_path / "two/keys").mkdir(parents=True, mode=0o700)
        shutil.copy(tmp_path / "one/keys/master.key", tmp_path / "two/keys/master.key")
        two = await stack.enter_async_context(opened(tmp_path / "two", shared))
        stranger = await stack.enter_async_context(opened(tmp_path / "three"))
        records = some_records(3, eventTime=format_time(one.clock.now()))
        for engines in (one, two, stranger):
            await start_history(stack, engines)
            await record(engines, records)
        page = await one.history.search(Search(), 1)
        assert page.next_token is not None
        following = await one.history.search(Search(), 1, page.next_token)
        assert await two.history.search(Search(), 1, page.next_token) == following
        with pytest.raises(CloudTrailError, match="next token is not valid"):
            await stranger.history.search(Search(), 1, page.next_token)
    assert not (tmp_path / "two/keys/page-token.key").exists()


@asynchronous
async def test_a_role_needs_a_cluster(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--role needs --journal and --control-store"):
        async with opened(tmp_path, replace(SETTINGS, role="recorder")):
            pass
    url = shared_server().new_database()
    with pytest.raises(UsageError, match="--role needs --journal and --control-store"):
        async with opened(tmp_path, replace(SETTINGS, role="query", control_store=url)):
            pass
