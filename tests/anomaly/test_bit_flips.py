"""One flipped bit in any file of a killed server's data directory: named, or without effect.

OPENTRAIL_BIT_FLIPS=all tries all places; otherwise a few of each file.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from opentrail.cli import main
from tests.live.processes import Opentrail, eventually, health, moto_server, until_well

pytestmark = [pytest.mark.anomaly, pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

#: Records of a file of event history.
SEALED = 20
TRIES_ALL = os.environ.get("OPENTRAIL_BIT_FLIPS") == "all"
#: Places of a file and starts of a server, unless the test tries all.
SAMPLE, STARTS = 8, 3
BUCKET, TRAILS = "evidence", ("one", "two", "three", "four")
#: Bytes of a log's header, of a frame's header, and of a page.
LOG_HEADER, FRAME_HEADER, PAGE = 32, 24, 4096
#: Members of a frame's header: page, size after a commit, both salts, both checksums.
FRAME_MEMBERS = (3, 7, 11, 15, 19, 23)
#: Members of a log's header: magic number, format, page size, sequence, both salts, both checksums.
LOG_MEMBERS = (3, 7, 10, 15, 19, 23, 27, 31)


@dataclass(frozen=True)
class Flip:
    """A bit of a file."""

    file: str
    offset: int
    bit: int

    def apply(self, folder: Path) -> None:
        with (folder / self.file).open("r+b") as file:
            file.seek(self.offset)
            (byte,) = file.read(1)
            file.seek(self.offset)
            file.write(bytes([byte ^ 1 << self.bit]))


@dataclass(frozen=True)
class World:
    """The data directory of a killed server, and its content."""

    folder: Path
    flags: tuple[str, ...]
    content: dict[str, Any]


def content_of(server: Opentrail) -> dict[str, Any]:
    """Returns the keys, users, trails and events of a server."""

    def printed(*arguments: str) -> Any:
        return json.loads(server.opentrail(*arguments, "--json").stdout)

    names = {f"user-{number}" for number in range(50)}
    events = server.records("eventName=CreateUser")
    return {
        "keys": printed("keys", "list"),
        "users": printed("users", "list"),
        "trails": server.boto("cloudtrail").describe_trails()["trailList"],
        "events": sorted(
            (each["requestParameters"]["userName"], each["eventID"])
            for each in events
            if each["requestParameters"]["userName"] in names
        ),
    }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world") / "data"
    with moto_server() as upstream:
        flags = ("--upstream", upstream, "--history-seal-records", str(SEALED))
        server = Opentrail(folder, *flags)
        try:
            server.start()
            server.boto("s3").create_bucket(Bucket=BUCKET)
            for number in range(50):
                server.boto("iam").create_user(UserName=f"user-{number}")
            for name in TRAILS:
                server.boto("cloudtrail").create_trail(Name=name, S3BucketName=BUCKET)
            server.opentrail("users", "create", "ann", "--role", "viewer")
            made = server.opentrail("keys", "create", "--user", "ann", "--json")
            eventually(lambda: list((folder / "history").glob("0*.duckdb")), "a sealed file")
            until_well(server)
            server.opentrail("keys", "disable", json.loads(made.stdout)["AccessKeyId"])
            content = content_of(server)
            server.kill()
            yield World(folder, flags, content)
        finally:
            server.close()


def flips_in(folder: Path, file: str, chance: random.Random) -> Iterator[Flip]:
    """Yields a flip of each kind of place in a file."""
    path = folder / file
    size = path.stat().st_size
    offsets = {0, size // 2, size - 1, chance.randrange(size)} if size else set()
    if file.endswith("-wal"):
        offsets |= set(LOG_MEMBERS)
        frames = frames_of(path.read_bytes())
        # The database does not have the last transactions yet.
        for start in {*frames[-3:], chance.choice(frames)}:
            offsets |= {start + member for member in FRAME_MEMBERS}
            offsets |= {start + FRAME_HEADER + chance.randrange(PAGE) for _ in range(2)}
    if file.endswith(".db"):
        offsets |= {at for at in (16, 18, 24, 28, 36, 40, 56, 63, 92, 100) if at < size}
    for offset in sorted(offsets):
        yield Flip(file, offset, chance.randrange(8))


def frames_of(log: bytes) -> list[int]:
    """Returns the offsets of the frames of a log's newest generation."""
    (size,) = struct.unpack(">I", log[8:12])
    starts = range(LOG_HEADER, len(log) - FRAME_HEADER - size + 1, FRAME_HEADER + size)
    return [start for start in starts if log[start + 8 : start + 16] == log[16:24]]


def is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> bool:
    code = main(["verify-store", "--data-dir", str(folder), "--json"])
    capsys.readouterr()
    return code != 0


def test_flipped_bit_is_named_or_without_effect(
    tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(1)
    files = [p.relative_to(world.folder).as_posix() for p in world.folder.rglob("*") if p.is_file()]
    files.remove("version")  # another version is refused at the start
    unnamed: dict[str, list[Flip]] = defaultdict(list)
    named = 0
    for file in sorted(files):
        flips = [*flips_in(world.folder, file, chance)]
        for flip in flips if TRIES_ALL else chance.sample(flips, min(len(flips), SAMPLE)):
            folder = tmp_path / "flipped"
            shutil.copytree(world.folder, folder)
            flip.apply(folder)
            if is_named(folder, capsys):
                named += 1
            else:
                unnamed[file].append(flip)
            shutil.rmtree(folder)
    assert named > 20
    # An unreported flip has no effect; one start checks this for a flip of each file.
    starts = max(map(len, unnamed.values()))
    for number in range(starts if TRIES_ALL else min(starts, STARTS)):
        group = [flips[number] for flips in unnamed.values() if number < len(flips)]
        folder = tmp_path / f"unnamed-{number}"
        shutil.copytree(world.folder, folder)
        for flip in group:
            flip.apply(folder)
        server = Opentrail(folder, *world.flags)
        try:
            server.start()
            eventually(lambda: is_open(health(server)), "all events")  # noqa: B023
            assert content_of(server) == world.content or problems(health(server)), group
        finally:
            server.close()


def is_open(state: dict[str, Any]) -> bool:
    history, journal = state["history"], state["journal"]
    return bool(history["responding"] and history["position"] >= journal["position"])


def problems(state: dict[str, Any]) -> list[Any]:
    lists = ("dataProblems", "keyProblems", "missing")
    return [each for name in lists for each in state[name]] + list(state["journal"]["lost"])


def test_lost_end_of_the_log_stops_enforcement(tmp_path: Path, world: World) -> None:
    """A key disabled before the kill is not accepted later."""
    log = (world.folder / "state.db-wal").read_bytes()
    # The kill may have been within a transaction, or before the note of the last one.
    *_, frame, _last = (start for start in frames_of(log) if any(log[start + 4 : start + 8]))
    for offset in (frame + member for member in (*FRAME_MEMBERS, FRAME_HEADER + 9)):
        folder = tmp_path / f"flipped-{offset}"
        shutil.copytree(world.folder, folder)
        Flip("state.db-wal", offset, 0).apply(folder)
        server = Opentrail(folder, *world.flags, "--auth", "enforced")
        try:
            with pytest.raises(AssertionError, match="server ended with 74"):
                server.start()
            assert re.search(r"misses its last \d+ changes", server.output)
        finally:
            server.close()
