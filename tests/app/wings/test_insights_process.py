from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from opentrail.app.wings.insights import WatchProcess
from opentrail.core.errors import StorageFailed
from opentrail.insights.findings import minute_of
from tests.factories import an_entry
from tests.fakes import asynchronous, utc


@pytest.mark.slow
@asynchronous
async def test_a_damaged_snapshot_is_set_aside(tmp_path: Path) -> None:
    watch = WatchProcess(tmp_path, "balanced")
    (tmp_path / "baselines.snapshot").write_bytes(b"x" * 100)
    await watch.start()
    try:
        assert not (await watch.state()).is_learned
        assert (tmp_path / "baselines.damaged").read_bytes() == b"x" * 100
    finally:
        await watch.stop()


@pytest.mark.slow
@asynchronous
async def test_an_unreadable_snapshot_is_set_aside(tmp_path: Path) -> None:
    watch = WatchProcess(tmp_path, "balanced")
    (tmp_path / "baselines.snapshot").mkdir()
    await watch.start()
    try:
        assert not (await watch.state()).is_learned
    finally:
        await watch.stop()


@pytest.mark.slow
@asynchronous
async def test_learned_identities_survive_restarts(tmp_path: Path) -> None:
    for expected in (False, True):
        watch = WatchProcess(tmp_path, "balanced")
        await watch.start()
        try:
            assert (await watch.state()).is_learned is expected
            if not expected:
                await watch.begin(minute_of(utc("2020-01-01T08:00:00Z")))
                await watch.adopt(5, 0)
            state = await watch.observe([an_entry(number) for number in range(4, 9)], 5)
            assert (state.cursor, state.keys) == (8, 1)
        finally:
            await watch.stop()


@pytest.mark.slow
@asynchronous
async def test_process_restarted_from_a_snapshot_refuses_a_gap(
    tmp_path: Path,
) -> None:
    """Otherwise it would never count the entries between its snapshot and the next batch."""
    watch = WatchProcess(tmp_path, "balanced")
    await watch.start()
    try:
        await watch.begin(minute_of(utc("2020-01-01T08:00:00Z")))
        await watch.adopt(5, 0)  # writes a snapshot
        assert (await watch.observe([an_entry(6), an_entry(7)], 5)).cursor == 7
        assert watch.pid is not None
        os.kill(watch.pid, signal.SIGKILL)
        assert (await watch.state()).cursor == 5
        with pytest.raises(StorageFailed, match="counted up to 5, not up to 7"):
            await watch.observe([an_entry(8)], 7)
        state = await watch.observe([an_entry(number) for number in range(6, 9)], 5)
        assert state.cursor == 8
    finally:
        await watch.stop()


@pytest.mark.slow
@asynchronous
async def test_events_are_counted_without_snapshots(tmp_path: Path) -> None:
    watch = WatchProcess(tmp_path, "balanced")
    await watch.start()
    try:
        (tmp_path / "baselines.snapshot").mkdir()
        await watch.begin(minute_of(utc("2020-01-01T08:00:00Z")))
        assert (await watch.adopt(5, 0)).cursor == 5
        assert (await watch.observe([an_entry(6)], 5)).cursor == 6
    finally:
        await watch.stop()


@pytest.mark.slow
@asynchronous
async def test_another_preset_learns_again(tmp_path: Path) -> None:
    for preset, expected in (("balanced", False), ("strict", False), ("strict", True)):
        watch = WatchProcess(tmp_path, preset)
        await watch.start()
        try:
            assert (await watch.state()).is_learned is expected
            if not expected:
                await watch.begin(minute_of(utc("2020-01-01T08:00:00Z")))
                await watch.adopt(5, 0)
        finally:
            await watch.stop()


@pytest.mark.slow
@asynchronous
async def test_identity_is_adopted_only_after_it_is_learned(tmp_path: Path) -> None:
    watch = WatchProcess(tmp_path, "balanced")
    await watch.start()
    try:
        with pytest.raises(StorageFailed, match="learning has not begun"):
            await watch.adopt(1, 0)
    finally:
        await watch.stop()


@pytest.mark.slow
@asynchronous
async def test_a_stopped_watch_can_be_started_again(tmp_path: Path) -> None:
    """As on a server that delivers trails again."""
    watch = WatchProcess(tmp_path, "balanced")
    for _ in range(2):
        await watch.start()
        assert not (await watch.state()).is_learned
        await watch.stop()
