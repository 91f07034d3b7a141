"""A server reloads the kinds that others changed in a shared control store, and only these."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import pytest

from opentrail.app.cluster.postgresql import follow_changes
from opentrail.core.errors import StateLost, StorageFailed, StoreUnreachable
from opentrail.ports.control import Put, Remove
from tests.fakes import MemoryControl, run_skipping_time


class Reloads:
    """Counts the reloads of each kind; kinds in `failing` fail."""

    def __init__(self) -> None:
        self.kinds: list[str] = []
        self.failing: set[str] = set()
        self.is_other_store = False

    async def require_own_store(self) -> None:
        if self.is_other_store:
            raise StateLost("the control store is another one")

    def of(self, *kinds: str) -> dict[str, Callable[[], Awaitable[object]]]:
        def reload_of(kind: str) -> Callable[[], Awaitable[object]]:
            async def reload() -> None:
                if kind in self.failing:
                    raise StorageFailed(f"{kind} is damaged")
                self.kinds.append(kind)

            return reload

        return {kind: reload_of(kind) for kind in kinds}

    def reloaded(self) -> list[str]:
        """Returns the kinds reloaded since the last call."""
        kinds, self.kinds = self.kinds, []
        return kinds


def following(
    control: MemoryControl, reloads: Reloads, story: Callable[[], Awaitable[None]]
) -> None:
    """Runs a story while a task follows the changes of two kinds."""

    async def both() -> None:
        task = asyncio.ensure_future(
            follow_changes(control, reloads.require_own_store, reloads.of("key", "policy"))
        )
        await asyncio.sleep(1)
        await story()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    run_skipping_time(both())


def test_only_changed_kinds_are_reloaded_within_a_second() -> None:
    control, reloads = MemoryControl(), Reloads()

    async def story() -> None:
        assert reloads.reloaded() == ["key", "policy"]
        await asyncio.sleep(60)
        assert reloads.reloaded() == []
        for change in (
            Put("key", "x", {"n": 1}),
            Put("key", "x", {"n": 2}),
            Remove("key", "x"),
        ):
            await control.apply([change, Put("trail", "t", {})])
            await asyncio.sleep(1)
            assert reloads.reloaded() == ["key"]
        await control.apply([Put("policy", "p", {})])
        await asyncio.sleep(1)
        assert reloads.reloaded() == ["policy"]

    following(control, reloads, story)


def test_unreachable_store_is_logged_once_and_read_later(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Remote(MemoryControl):
        is_away = False

        async def revisions(self, kinds: Sequence[str]) -> dict[str, str]:
            if self.is_away:
                raise StoreUnreachable("the control store does not answer")
            return await super().revisions(kinds)

    control, reloads = Remote(), Reloads()
    caplog.set_level(logging.INFO)

    async def story() -> None:
        reloads.reloaded()
        control.is_away = True
        await control.apply([Put("key", "x", {})])
        await asyncio.sleep(60)
        assert reloads.reloaded() == []
        control.is_away = False
        await asyncio.sleep(1)
        assert reloads.reloaded() == ["key"]

    following(control, reloads, story)
    assert [record.message for record in caplog.records] == [
        "changes by other servers cannot be read; the last known state stays in effect",
        "changes by other servers are read again",
    ]


def test_unreadable_documents_delay_no_other_kind() -> None:
    control, reloads = MemoryControl(), Reloads()

    async def story() -> None:
        reloads.reloaded()
        reloads.failing = {"key"}
        await control.apply([Put("key", "x", {}), Put("policy", "p", {})])
        await asyncio.sleep(1)
        assert reloads.reloaded() == ["policy"]
        reloads.failing = set()
        await asyncio.sleep(1)
        assert reloads.reloaded() == ["key"]

    following(control, reloads, story)


def test_known_state_survives_a_replaced_store() -> None:
    control, reloads = MemoryControl(), Reloads()

    async def story() -> None:
        reloads.reloaded()
        reloads.is_other_store = True
        await control.apply([Put("key", "x", {})])
        await asyncio.sleep(60)
        assert reloads.reloaded() == []
        reloads.is_other_store = False
        await asyncio.sleep(1)
        assert reloads.reloaded() == ["key"]

    following(control, reloads, story)


def test_a_bug_stops_no_task(caplog: pytest.LogCaptureFixture) -> None:
    control, reloads = MemoryControl(), Reloads()
    revisions = control.revisions

    async def broken(kinds: Sequence[str]) -> dict[str, str]:
        raise KeyError("a mistake")

    async def story() -> None:
        reloads.reloaded()
        control.revisions = broken  # type: ignore[method-assign]
        await asyncio.sleep(1)
        assert "a mistake" in caplog.text
        control.revisions = revisions  # type: ignore[method-assign]
        await control.apply([Put("key", "x", {})])
        await asyncio.sleep(1)
        assert reloads.reloaded() == ["key"]

    following(control, reloads, story)
