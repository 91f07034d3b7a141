"""Every file of a data directory, damaged in every way: the server names it and never hangs."""

from __future__ import annotations

import json
import random
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.adapters.data_directory.sealed_file_names import Series, sealed_files
from opentrail.adapters.data_directory.unrecorded_counts import GapFile
from opentrail.adapters.table_hashes import HASHES, HINT
from opentrail.cli import main
from opentrail.core.gaps import Gap
from tests.factories import a_record, event_id
from tests.live.processes import Opentrail, eventually, health, moto_server, opentrail_server

pytestmark = [
    pytest.mark.anomaly,
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.campaign,
]

#: Seconds after its start in which a server must name the damage.
SECONDS = 60.0
#: Seconds for which it must not name whole files.
QUIET_SECONDS = 10.0
#: Records of a file of event history.
SEALED = 20
#: Single bits of files of stores and results that are flipped before a check, or before a query.
FLIPS, ANSWERED_FLIPS = 500, 40
STATEMENT = "SELECT eventId, requestParameters FROM kept WHERE eventName = 'CreateUser'"
MOMENT = datetime(2020, 1, 1, tzinfo=UTC)
ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/evidence"


@dataclass(frozen=True)
class World:
    """Data directories that two servers left, and a way to start a server on them."""

    folder: Path
    other: Path
    flags: tuple[str, ...]


@dataclass
class Row:
    """The reports of one damage; '' if there is none."""

    file: str
    kind: str
    start: str = ""
    health: str = ""
    verify: str = ""
    doctor: str = ""
    events: set[str] = field(default_factory=set)


def fill(folder: Path, upstream: str, imported: Path, flags: tuple[str, ...]) -> None:
    """Makes a data directory with all kinds of files."""
    direct = boto3.client(
        "s3",
        endpoint_url=upstream,
        region_name="us-east-1",
        aws_access_key_id="x",
        aws_secret_access_key="x",
    )
    direct.create_bucket(Bucket=f"bucket-{folder.name}")
    with opentrail_server(folder, *flags) as server:
        trails = server.boto("cloudtrail")
        trails.create_trail(
            Name="evidence", S3BucketName=f"bucket-{folder.name}", EnableLogFileValidation=True
        )
        trails.start_logging(Name="evidence")
        iam = server.boto("iam")
        for number in range(50):
            iam.create_user(UserName=f"{folder.name}-{number}")
        for arguments in (
            ("keys", "create", "--user", "ann"),
            ("users", "create", "ann", "--role", "viewer"),
            ("import", str(imported)),
            ("trail", "flush", "evidence"),
        ):
            assert server.opentrail(*arguments).returncode == 0
        fill_store(server, folder)
        eventually(lambda: list((folder / "history").glob("0*.duckdb")), "a sealed file")
        leave_a_tail(server, folder)
        assert server.stop() == 0
    GapFile(folder / "lost").keep(Gap(3, MOMENT, MOMENT, "the disk was full"))


def fill_store(server: Opentrail, folder: Path) -> str:
    """Makes a store with recorded and copied events, its table and a result; returns its id."""
    cloudtrail = server.boto("cloudtrail")
    store = cloudtrail.create_event_data_store(Name="kept", TerminationProtectionEnabled=False)
    for number in range(20):
        server.boto("iam").create_user(UserName=f"{folder.name}-kept-{number}")
    source = {
        "S3LocationUri": f"s3://bucket-{folder.name}",
        "S3BucketRegion": "us-east-1",
        "S3BucketAccessRoleArn": "arn:aws:iam::123456789012:role/any",
    }
    begun = cloudtrail.start_import(
        Destinations=[store["EventDataStoreArn"]], ImportSource={"S3": source}
    )
    eventually(
        lambda: cloudtrail.get_import(ImportId=begun["ImportId"])["ImportStatus"] == "COMPLETED",
        "an import",
    )
    cloudtrail.enable_federation(
        EventDataStore=store["EventDataStoreArn"],
        FederationRoleArn="arn:aws:iam::123456789012:role/any",
    )
    eventually(lambda: list(folder.glob(f"stores/*/iceberg/metadata/{HINT}")), "an Iceberg table")
    assert server.opentrail("query", STATEMENT).returncode == 0
    return str(store["EventDataStoreArn"]).rpartition("/")[2]


def leave_a_tail(server: Opentrail, folder: Path) -> None:
    """Makes calls until some records are only in the journal, too few for sealing."""

    def unsealed() -> int:
        eventually(lambda: is_ready(health(server)), "event history with all records")
        position = int(health(server)["history"]["position"])
        sealed = sealed_files(folder / "history", Series.JOURNAL)
        return position - max(file.last for file in sealed)

    while True:
        eventually(lambda: unsealed() < SEALED, "full files are sealed")
        if unsealed() > 0:
            return
        server.boto("iam").create_user(UserName=f"{folder.name}-tail")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("worlds")
    imported = root / "imported.ndjson"
    records = [a_record(eventID=event_id(900_000 + number)) for number in range(30)]
    imported.write_text("".join(json.dumps(each) + "\n" for each in records))
    with moto_server() as upstream:
        flags = ("--upstream", upstream, "--history-seal-records", str(SEALED))
        for name in ("data", "other"):
            fill(root / name, upstream, imported, flags)
        yield World(root / "data", root / "other", flags)


# The damage

PLACES = (b'"userName":"data-', b'"S3BucketName"', b'"bucket":"')


def remove(path: Path, _other: Path) -> None:
    path.unlink()


def empty(path: Path, _other: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path, _other: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def flip(path: Path, _other: Path) -> None:
    """Flips a bit where the file has content; much of a database is unused."""
    content = bytearray(path.read_bytes())
    found = [content.find(place) for place in PLACES if place in content]
    at = found[0] + 12 if found and path.suffix == ".db" else len(content) // 2
    content[at] ^= 1
    path.write_bytes(content)


def swap(path: Path, other: Path) -> None:
    path.write_bytes(other.read_bytes())


KINDS: tuple[Callable[[Path, Path], None], ...] = (remove, empty, halve, flip, swap)

#: Files of every data directory: a pattern for the names of each file.
FILES = (
    r"state\.db",
    r"inventory\.json",
    r"history/inventory\.json",
    r"written",
    r"version",
    r"lock",
    r"journal/\d+\.db",
    r"history/0\d+-.*\.duckdb",
    r"history/import-.*\.duckdb",
    r"history/spare\.note",
    r"keys/master\.key",
    r"keys/page-token\.key",
    r"keys/signing-.*\.pem",
    r"insights/baselines\.snapshot",
    r"lost/.*\.json",
    r"stores/.*/0\d+-.*\.parquet",
    r"stores/.*/import-.*\.parquet",
    r"stores/.*/iceberg/metadata/version-hint\.text",
    r"stores/.*/iceberg/metadata/sha256\.json",
    r"stores/.*/iceberg/metadata/v\d+\.metadata\.json",
    r"stores/.*/iceberg/metadata/snap-.*\.avro",
    r"stores/.*/iceberg/metadata/.*-m\d+\.avro",
    r"queries/.*\.json",
    r"queries/.*\.rows",
)
ALL = ("start", "health", "verify", "doctor")
HEALED = "the other copy and the data are there; the next start makes the file again"
#: Files and kinds of damage → who may stay silent, and the reason.
HARMLESS: tuple[tuple[str, str, tuple[str, ...], str], ...] = (
    (r"(history/)?inventory\.json", ".*", ("health", "doctor"), HEALED),
    (r"written", ".*", ("health", "doctor"), HEALED),
    (r"version", "remove", ALL, "the next start makes it again"),
    (r"version", "swap|halve|flip", ALL, "the number in it is the same"),
    (r"lock", ".*", ALL, "it only names the process; the folder itself is locked"),
    (r"keys/page-token\.key", ".*", ALL, "pages that were begun must be begun again"),
    (
        r"lost/.*",
        "remove",
        ALL,
        "not harmless: it counts calls that `allow` answered without a record; but a process"
        " without such calls removes it itself, so that nobody can tell",
    ),
    (r"lost/.*", "swap", ("verify", "doctor"), "the server records the loss that the file names"),
    (r"insights/.*", ".*", ALL, "baselines are learned from event history again"),
    (r"history/spare\.note", ".*", ALL, "it is written whole before an expiry"),
    (r"history/0.*", "remove", ALL, "the journal still has its positions; else it is a gap"),
    (r"history/0.*", ".*", ("health", "doctor"), "it is sealed from the journal again"),
    (r"stores/.*/0.*", ".*", ("health", "doctor"), "it is written from the journal again"),
    (r"stores/.*/version-hint\.text", "swap", ALL, "the number in it is the same"),
    (r"stores/.*/iceberg/.*", ".*", ("health", "doctor"), "the server rewrites the table"),
    (r"queries/.*\.json", "remove", ALL, "the query is gone, as after a week"),
    (r"queries/.*", ".*", ("health", "doctor"), "only reading this result fails"),
)


def silent_may_be(file: str, kind: str) -> tuple[str, ...]:
    return next(
        (
            who
            for pattern, kinds, who, _ in HARMLESS
            if re.fullmatch(pattern, file) and re.fullmatch(kinds, kind)
        ),
        (),
    )


def files_of(folder: Path) -> list[str]:
    """Returns one file of each pattern, the first in the order of names."""
    found = sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )
    unknown = [name for name in found if not any(re.fullmatch(each, name) for each in FILES)]
    assert unknown == [], "a kind of file that this test does not know"
    return [next(name for name in found if re.fullmatch(each, name)) for each in FILES]


def counterpart(world: World, file: str) -> Path:
    pattern = next(each for each in FILES if re.fullmatch(each, file))
    return next(
        path
        for path in sorted(world.other.rglob("*"))
        if re.fullmatch(pattern, path.relative_to(world.other).as_posix())
    )


# The reports


def verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    code = main(["verify-store", "--data-dir", str(folder), "--json"])
    said = capsys.readouterr()
    found = json.loads(said.out)["findings"] if said.out else []
    texts = [f"{each['file']}: {each['problem']}" for each in found] or [said.err.strip()]
    return texts[0] if code else ""


def diagnosed(folder: Path, capsys: pytest.CaptureFixture[str], *, runs: bool) -> str:
    """Returns doctor's problems, without the missing server."""
    main(["doctor", "--data-dir", str(folder), "--json"])
    found = json.loads(capsys.readouterr().out)["findings"]
    wrong = [each for each in found if each["level"] == "problem"]
    subjects = ("data directory", "signing keys", "permissions", *(("server",) if runs else ()))
    return next((each["text"] for each in wrong if each["subject"] in subjects), "")


def said_by(server: Opentrail, seconds: float) -> str:
    """Returns the damage that a server names within some seconds of its start, '' if none."""
    eventually(lambda: is_ready(health(server)), "event history and a checked journal")
    end = time.monotonic() + seconds
    pause = threading.Event()
    while not (named := named_by(server)) and time.monotonic() < end:
        pause.wait(0.2)
    return named


def named_by(server: Opentrail) -> str:
    def explained() -> dict[str, Any]:
        """Returns the health once it is good or has a reason: a part may answer late."""
        state = health(server)
        return state if state["status"] == "ok" or reasons(state) else {}

    state = eventually(explained, "the server says why it is not well")
    if state["status"] == "ok":
        if losses := server.records("EventName=RecordsLost"):
            details = losses[0]["serviceEventDetails"]
            return f"RecordsLost: {details.get('lostRecords', '?')}: {details['reason']}"
        damaged = state["history"]["damaged"]
        return f"history.damaged: {damaged[0]}" if damaged else ""
    return f"{state['status']}: {reasons(state)[0]}"


def reasons(state: dict[str, Any]) -> list[str]:
    """Returns the problems in a server's health."""
    lists = ("dataProblems", "keyProblems", "missing", "trailProblems")
    texts = [str(each) for name in lists for each in state[name]]
    return texts + [each["reason"] for each in state["journal"]["lost"]]


def is_ready(state: dict[str, Any]) -> bool:
    """Returns whether a server has opened everything; until then it may be degraded."""
    history, journal = state["history"], state["journal"]
    is_open = history["responding"] and history["position"] >= journal["position"]
    return bool(journal["checked"] and is_open)


def looked_at(world: World, folder: Path, row: Row, capsys: Any, seconds: float) -> None:
    row.verify = verified(folder, capsys)
    row.doctor = diagnosed(folder, capsys, runs=False)
    server = Opentrail(folder, *world.flags)
    try:
        server.start()
    except AssertionError as error:
        row.start = str(error).replace("\n", " ")[:200]
    else:
        row.health = said_by(server, seconds)
        row.doctor = row.doctor or diagnosed(folder, capsys, runs=True)
        warned = [line for line in server.output.splitlines() if '"level":"' in line]
        assert server.stop() == 0
        lines = server.output.splitlines()
        row.start = next((each for each in [*warned, *lines] if "rebuilding it" in each), "")
    finally:
        server.close()


def test_intact_directory_has_no_findings(
    tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data"
    shutil.copytree(world.folder, folder)
    for gap in (folder / "lost").iterdir():
        gap.unlink()
    row = Row("", "")
    looked_at(world, folder, row, capsys, QUIET_SECONDS)
    assert (row.start, row.health, row.verify, row.doctor) == ("", "", "", "")


def needs_no_server(file: str, kind: str) -> bool:
    """Returns whether neither a server nor doctor must name a damage."""
    return {"health", "doctor"} <= set(silent_may_be(file, kind))


@pytest.mark.parametrize("whole", ["inventory.json", "history/inventory.json"])
@pytest.mark.parametrize("damage", KINDS)
def test_a_server_starts_despite_harmless_damage(
    tmp_path: Path,
    world: World,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path, Path], None],
    whole: str,
) -> None:
    """One start covers all files except one of two copies, from which the other is restored."""
    files = [
        each
        for each in files_of(world.folder)
        if needs_no_server(each, damage.__name__) and each != whole
    ]
    folder = tmp_path / "data"
    shutil.copytree(world.folder, folder)
    for file in files:
        damage(folder / file, counterpart(world, file))
    row = Row(", ".join(files), damage.__name__)
    looked_at(world, folder, row, capsys, 0)
    assert len(files) >= 5
    assert row.start == "" or "rebuilding it" in row.start


def example(pattern: str) -> str:
    """Returns a name that matches the pattern of a file."""
    return re.sub(r"\\d\+|\.\*", "0", pattern).replace("\\", "")


@pytest.mark.parametrize(
    ("pattern", "damage"),
    [
        (pattern, damage)
        for pattern in FILES
        for damage in KINDS
        if silent_may_be(example(pattern), damage.__name__) != ALL
    ],
)
def test_every_check_names_damage_to_any_file(
    tmp_path: Path,
    world: World,
    capsys: pytest.CaptureFixture[str],
    pattern: str,
    damage: Callable[[Path, Path], None],
    record_property: Callable[[str, object], None],
) -> None:
    file = next(each for each in files_of(world.folder) if re.fullmatch(pattern, each))
    folder = tmp_path / "data"
    shutil.copytree(world.folder, folder)
    if not file.startswith("lost/"):
        for gap in (folder / "lost").iterdir():
            gap.unlink()
    damage(folder / file, counterpart(world, file))
    row = Row(file, damage.__name__)
    silent = silent_may_be(file, row.kind)
    if needs_no_server(file, row.kind):  # the test above starts one
        row.verify = verified(folder, capsys)
    else:
        looked_at(world, folder, row, capsys, 0 if "health" in silent else SECONDS)
    record_property("row", [row.file, row.kind, row.start, row.health, row.verify, row.doctor])
    with capsys.disabled():
        print(json.dumps([row.file, row.kind, row.start, row.health, row.verify, row.doctor]))
    if "verify" not in silent:
        assert row.verify
    if "health" not in silent:
        assert row.health or row.start
    if "doctor" not in silent:
        assert row.doctor


# Single bits


def queried_files(folder: Path) -> list[Path]:
    """Returns the files of stores, their tables and results."""
    found = [*(folder / "stores").rglob("*"), *(folder / "queries").rglob("*")]
    return sorted(path for path in found if path.is_file())


@contextmanager
def flipped(path: Path, chance: random.Random) -> Iterator[None]:
    """Flips a bit of a file for a while."""
    whole = path.read_bytes()
    content = bytearray(whole)
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)
    yield
    path.write_bytes(whole)


def test_any_flipped_bit_of_a_queried_file_is_named(
    tmp_path: Path, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    chance, folder = random.Random(1), tmp_path / "data"
    shutil.copytree(world.folder, folder)
    files = queried_files(folder)
    for _ in range(FLIPS):
        path = chance.choice(files)
        with flipped(path, chance):
            # If it has the hashes, another file seems to be damaged.
            named = path.parent if path.name == HASHES else path
            assert named.relative_to(folder).as_posix() in verified(folder, capsys)
    for gap in (folder / "lost").iterdir():
        gap.unlink()
    assert verified(folder, capsys) == ""


def test_query_over_a_flipped_bit_answers_right_or_fails(tmp_path: Path, world: World) -> None:
    chance, folder = random.Random(2), tmp_path / "data"
    shutil.copytree(world.folder, folder)
    server = Opentrail(folder, *world.flags)
    try:
        server.start()
        (query,) = (path.stem for path in folder.glob("queries/*.json"))
        asked = (("query", STATEMENT), ("query", "--id", query))

        def answers() -> list[tuple[int, list[str]]]:
            done = [server.opentrail(*each, "--json") for each in asked]
            return [(one.returncode, sorted(one.stdout.splitlines())) for one in done]

        right = answers()
        assert [code for code, _ in right] == [0, 0]
        failed = 0
        for _ in range(ANSWERED_FLIPS):
            with flipped(chance.choice(queried_files(folder)), chance):
                for answer, expected in zip(answers(), right, strict=True):
                    assert answer[0] != 0 or answer == expected
                    failed += answer[0] != 0
        assert failed > 0
        assert answers()[0] == right[0]  # the damaged result stays failed
    finally:
        server.close()
