"""A journal that was removed, cut, overwritten or altered while the server was down.

The server names the damage, never hangs, finds every undamaged record and shows new calls.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.live.processes import eventually, health, opentrail_server, run_opentrail, until_well
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow]

COUNT = 500
PAGE = 4096


@dataclass(frozen=True)
class World:
    """A data directory left by a server, with positions and records by event id."""

    folder: Path
    ids: dict[str, int]
    records: dict[str, dict[str, Any]]
    flags: tuple[str, ...]


@pytest.fixture(scope="module")
def upstream() -> Iterator[StubUpstream]:
    with StubUpstream() as stub:
        yield stub


@pytest.fixture(scope="module")
def worlds(
    tmp_path_factory: pytest.TempPathFactory, upstream: StubUpstream
) -> Callable[[str], World]:
    """Makes each kind once, in any order of the tests."""
    return cache(lambda kind: made_world(kind, tmp_path_factory.mktemp(kind) / "data", upstream))


@pytest.fixture(params=["unsealed", pytest.param("sealed", marks=pytest.mark.campaign)])
def world(request: pytest.FixtureRequest, worlds: Callable[[str], World]) -> World:
    return worlds(request.param)


def made_world(kind: str, folder: Path, upstream: StubUpstream) -> World:
    is_sealed = kind == "sealed"
    sealing = ("--history-seal-records", "100") if is_sealed else ()
    flags = ("--upstream", upstream.url, *sealing)
    with opentrail_server(folder, *flags) as server:
        iam = server.boto("iam")
        for number in range(COUNT):
            iam.create_user(UserName=f"user-{number}", Path=f"/{'x' * (number % 7 * 70)}/")
        records = {record["eventID"]: record for record in reversed(server.records())}
        ids = {event_id: position for position, event_id in enumerate(records, 1)}
        assert len(ids) == COUNT
        if is_sealed:
            sealed = folder / "history"
            eventually(lambda: len(list(sealed.glob("*.duckdb"))) >= 4, "sealed files")
        assert server.stop() == 0
    return World(folder, ids, records, flags)


def segments(folder: Path) -> list[Path]:
    return sorted((folder / "journal").glob("*.db"))


def overwrite(path: Path, at: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(content)


def remove_all(folder: Path) -> None:
    for path in (folder / "journal").iterdir():
        path.unlink()


def remove_folder(folder: Path) -> None:
    shutil.rmtree(folder / "journal")


def cut_in_half(folder: Path) -> None:
    path = segments(folder)[-1]
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def cut_to_nothing(folder: Path) -> None:
    segments(folder)[-1].write_bytes(b"")


def zero_at_50_places(folder: Path) -> None:
    path = segments(folder)[-1]
    pages = path.stat().st_size // PAGE
    for page in random.Random(5).sample(range(1, pages), min(50, pages // 2)):
        overwrite(path, page * PAGE, b"\0" * PAGE)


def zero_the_first_page(folder: Path) -> None:
    overwrite(segments(folder)[-1], 0, b"\0" * PAGE)


def zero_the_last_page(folder: Path) -> None:
    path = segments(folder)[-1]
    overwrite(path, path.stat().st_size - PAGE, b"\0" * PAGE)


def overwrite_everything(folder: Path) -> None:
    path = segments(folder)[-1]
    path.write_bytes(b"this is not a database " * (path.stat().st_size // 23))


def flip_a_byte_in_200_records(folder: Path) -> None:
    path = segments(folder)[-1]
    content = bytearray(path.read_bytes())
    names = [b'"userName":"user-%d"' % number for number in range(COUNT)]
    whole = [name for name in names if name in content]  # not cut by the end of a page
    for name in random.Random(6).sample(whole, 200):
        content[content.find(name) + 13] ^= 1
    path.write_bytes(content)


FAULTS: list[tuple[Callable[[Path], None], int]] = [
    (remove_all, COUNT),
    (remove_folder, COUNT),
    (cut_in_half, COUNT * 6 // 10),
    (cut_to_nothing, COUNT),
    (zero_at_50_places, 250),
    (zero_the_first_page, 0),
    (zero_the_last_page, 8),
    (overwrite_everything, COUNT),
    (flip_a_byte_in_200_records, 200),
]


#: Faults that are also tried with sealed files. Event history gets no record from the journal at
#: all, the records before a cut, those around holes, or altered ones; others of FAULTS do the same.
AMONG_SEALED = (remove_all, cut_in_half, zero_at_50_places, flip_a_byte_in_200_records)


def lost_positions(state: dict[str, Any]) -> set[int]:
    return {
        position
        for one in state["journal"]["lost"]
        if one["last"] is not None
        for position in range(one["first"], one["last"] + 1)
    }


@pytest.mark.parametrize(
    ("world", "damage", "most"),
    [
        pytest.param(
            kind,
            *fault,
            id=f"{kind}-{fault[0].__name__}",
            marks=() if (kind, fault[0]) == ("unsealed", cut_in_half) else pytest.mark.campaign,
        )
        for kind in ("unsealed", "sealed")
        for fault in FAULTS
        if kind == "unsealed" or fault[0] in AMONG_SEALED
    ],
    indirect=["world"],
)
def test_damaged_journal_is_reported_and_costs_no_other(
    tmp_path: Path, world: World, damage: Callable[[Path], None], most: int
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(world.folder, folder)
    damage(folder)
    if (folder / "journal").exists():
        checked = run_opentrail("verify-store", "--data-dir", str(folder), "--json")
        found = json.loads(checked.stdout)["findings"]
        assert checked.returncode == 1
        assert found
    with opentrail_server(folder, *world.flags) as server:
        server.boto("iam").create_user(UserName="afterwards")
        eventually(lambda: health(server)["journal"]["checked"], "the check of the journal")
        answer = server.opentrail("lookup", "name=CreateUser", "--limit", "10000", "--json")
        assert answer.returncode == 0, answer.stderr
        records = [json.loads(line) for line in answer.stdout.splitlines()]
        names = [record["requestParameters"]["userName"] for record in records]
        assert names.count("afterwards") == 1
        before = [record for record in records if record["eventID"] in world.ids]
        assert [world.records[record["eventID"]] for record in before] == before
        assert len(before) == len(records) - 1
        state = health(server)
        missing = set(world.ids) - {record["eventID"] for record in records}
        lost = {world.ids[event_id] for event_id in missing}
        assert lost <= lost_positions(state)
        assert len(lost) <= most
        assert len(names) == len(set(names))
        if damage is not zero_the_first_page:
            assert state["journal"]["lost"]
        if state["journal"]["lost"]:
            assert state["status"] == "degraded"
            losses = len(state["journal"]["lost"])

            def recorded() -> int:
                return len(server.records("eventName=RecordsLost"))

            eventually(lambda: recorded() >= losses, "a record of each loss")
            assert recorded() == losses
            shown = server.opentrail("status")
            assert shown.returncode == 1
            assert "degraded" in shown.stdout
        if lost:
            assert "missing: position" in answer.stderr
        assert server.stop() == 0
        server.start()
        assert health(server)["status"] == state["status"]
        again = server.records("eventName=RecordsLost")
        assert len(again) == len(state["journal"]["lost"])
        assert len(server.records("eventName=CreateUser")) == len(records)
    assert run_opentrail("verify-store", "--data-dir", str(folder)).returncode in (0, 1)


@pytest.mark.campaign
def test_damage_during_a_run_is_confined_and_named(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "data"
    shutil.copytree(world.folder, folder)
    is_sealed = "--history-seal-records" in world.flags
    seal_after = () if is_sealed else ("--history-seal-records", "520")
    with opentrail_server(folder, *world.flags, *seal_after) as server:
        eventually(lambda: health(server)["journal"]["checked"], "the check of the journal")
        eventually(lambda: health(server)["history"]["position"] == COUNT, "history")
        until_well(server)
        zero_at_50_places(folder)
        iam = server.boto("iam")
        for number in range(120):  # the table in memory is full, and is sealed from the journal
            iam.create_user(UserName=f"afterwards-{number}")
        if (
            is_sealed
        ):  # sealed files have the damaged records, so the server may not read them again
            assert len(server.records("eventName=CreateUser")) == COUNT + 120
            assert server.stop() == 0
            server.start()
        eventually(lambda: health(server)["journal"]["lost"], "damage that is found")
        assert health(server)["status"] == "degraded"
        eventually(lambda: server.records("eventName=RecordsLost"), "a record of the loss")
        records = server.records("eventName=CreateUser")
        found = {record["eventID"] for record in records}
        assert len(found) == len(records)
        names = [record["requestParameters"]["userName"] for record in records]
        assert sum(name.startswith("afterwards") for name in names) == 120
        missing = {world.ids[event_id] for event_id in set(world.ids) - found}
        assert missing <= lost_positions(health(server))
        assert server.stop() == 0


@pytest.mark.campaign
def test_a_history_process_that_hangs_is_replaced(tmp_path: Path, world: World) -> None:
    folder = tmp_path / "data"
    shutil.copytree(world.folder, folder)
    with opentrail_server(folder, *world.flags) as server:
        assert len(server.records("eventName=CreateUser")) == COUNT
        (history,) = server.children(b"opentrail.adapters.duckdb.process")
        os.kill(history, signal.SIGSTOP)
        eventually(lambda: not health(server)["history"]["responding"], "a process that hangs")
        assert health(server)["status"] == "degraded"
        assert len(server.records("eventName=CreateUser")) == COUNT
        until_well(server)  # by another process
        assert server.children(b"opentrail.adapters.duckdb.process") != [history]


@pytest.mark.campaign
def test_a_missing_file_of_imported_events_is_named(tmp_path: Path, upstream: StubUpstream) -> None:
    lines = tmp_path / "records.ndjson"
    sample = Path(__file__).parent.parent / "data" / "real-records.ndjson"
    shutil.copy(sample, lines)
    folder = tmp_path / "data"
    with opentrail_server(folder, "--upstream", upstream.url) as server:
        assert server.opentrail("import", str(lines)).returncode == 0
        imported = health(server)["history"]["imported"]
        assert imported
        server.stop()
        (file,) = (folder / "history").glob("import-*.duckdb")
        file.unlink()
        server.start()
        lost = eventually(lambda: health(server)["history"]["lostImports"], "the lost events")
        assert lost == [[1, imported]]
        assert health(server)["status"] == "degraded"
        assert server.opentrail("import", str(lines)).returncode == 0
        again = health(server)["history"]
        assert again["imported"] == 2 * imported


@pytest.mark.campaign
def test_a_cut_log_after_a_kill_is_named(tmp_path: Path, upstream: StubUpstream) -> None:
    """Every one of these records was acknowledged less than 5 seconds before the kill."""
    folder, count = tmp_path / "data", 12
    flags = ("--upstream", upstream.url)
    with opentrail_server(folder, *flags) as server:
        iam = server.boto("iam")
        for number in range(count):
            iam.create_user(UserName=f"user-{number}")
        server.kill()
    (log,) = (folder / "journal").glob("*.db-wal")
    whole = log.read_bytes()
    assert run_opentrail("verify-store", "--data-dir", str(folder)).returncode == 0
    for part in range(3):
        copy = tmp_path / f"cut-{part}"
        shutil.copytree(folder, copy)
        (copy / "journal" / log.name).write_bytes(whole[: len(whole) * part // 3])
        checked = run_opentrail("verify-store", "--data-dir", str(copy), "--json")
        found = json.loads(checked.stdout)["findings"]
        assert checked.returncode == 1
        assert found[-1]["last"] == count
        with opentrail_server(copy, *flags) as server:
            state = health(server)
            assert state["status"] == "degraded"
            lost = lost_positions(state)
            kept = sum(each["eventName"] == "CreateUser" for each in server.records())
            assert lost == set(range(count - len(lost) + 1, count + 1))
            assert kept == count - len(lost) < count
