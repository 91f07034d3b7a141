"""A server and its records, from a start on an empty directory."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from opentrail.api.services import Services
from opentrail.app.core import core_of, start_core, start_history
from opentrail.app.engines import Engines
from opentrail.core.event import format_time
from opentrail.history.event_history import Search
from opentrail.settings import Settings
from tests.app.opened import opened_engines
from tests.factories import ACCOUNT, a_new_entry, a_record
from tests.fakes import TIMEOUT_SECONDS, asynchronous


async def eventually(question: Callable[[], object]) -> None:
    while True:
        if question():
            return
        await asyncio.sleep(0.01)


@asynccontextmanager
async def started(
    folder: Path, fail: Callable[[str], None]
) -> AsyncIterator[tuple[Engines, Services]]:
    settings = Settings(data_dir=folder, upstream={"": "http://127.0.0.1:9"}, insights="off")
    async with opened_engines(settings, fail) as (stack, engines, data):
        await start_history(stack, engines)
        core = core_of(
            stack, engines, data, lambda: ACCOUNT, "http://127.0.0.1:8", "http://127.0.0.1:9"
        )
        yield engines, await start_core(core, ())


@pytest.mark.slow
@asynchronous
async def test_recorded_event_and_positions_survive_restarts(
    tmp_path: Path,
) -> None:
    failures: list[str] = []
    async with started(tmp_path, failures.append) as (engines, services):
        now = engines.clock.now()
        record = a_record(eventTime=format_time(now))
        await engines.journal.append([a_new_entry(record, recorded_at=now)])
        async with asyncio.timeout(TIMEOUT_SECONDS):
            await services.history.follower.until_visible(1)
        assert len((await services.history.search(Search())).events) == 1
    async with started(tmp_path, failures.append) as (engines, services):
        assert engines.journal.head == 1
        assert await engines.identities.cursor() == 1, "identities missed nothing"
    assert failures == []


@pytest.mark.slow
@asynchronous
async def test_a_failed_start_of_history_is_retried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    async with asyncio.timeout(TIMEOUT_SECONDS):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", str(tmp_path / "none"))
            async with started(tmp_path, reasons.append) as (engines, _):
                store = engines.store
                await eventually(lambda: store.failure)
                assert "cannot be started" in str(store.failure)
                assert not store.is_responding
                patch.undo()
                await eventually(lambda: store.is_responding)
    assert reasons == []
