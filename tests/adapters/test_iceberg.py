"""An Iceberg table has exactly the given data files, and readers find it at any moment."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.io.pyarrow import PyArrowFile, PyArrowFileIO
from pyiceberg.table import StaticTable

from opentrail.adapters import iceberg
from opentrail.adapters.iceberg import KEPT, publish
from opentrail.adapters.table_hashes import damaged_in
from opentrail.core import faults
from opentrail.core.event import ACTIVITY, MANAGEMENT
from opentrail.lake.dialect import engine
from opentrail.lake.event_history import schema, typed
from tests.factories import a_record, an_audit_record
from tests.fakes import PowerCutError
from tests.forgetful_disk import Disk, calls, strace

NOW = datetime.now(UTC)


def written(path: Path, record: dict[str, Any], family: str = MANAGEMENT) -> str:
    """Writes a store's file with one event; returns its address."""
    query = typed("rows", family)
    with duckdb.connect() as connection:
        engine.prepare(connection, query)
        connection.execute("CREATE TABLE rows AS SELECT $1 AS record", [json.dumps(record)])
        connection.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return f"file://{path}"


def a_file(folder: Path, number: int) -> str:
    """Writes a store's file with the event `number`; returns its address."""
    record = a_record(
        eventID=str(number),
        requestParameters={"userName": "Mary"},
        resources=[{"type": "AWS::S3::Bucket", "ARN": "arn:aws:s3:::bucket"}],
        tlsDetails={"tlsVersion": "TLSv1.3"},
    )
    return written(folder / f"{number}.parquet", record)


def events(table: Path) -> list[int]:
    """Returns the events that readers of a table see."""
    scan = StaticTable.from_metadata(f"file://{table}").scan()
    return sorted(int(row["eventid"]) for row in scan.to_arrow().to_pylist())


def metadata(table: Path) -> set[str]:
    return {path.name for path in (table / "metadata").iterdir()}


@pytest.mark.slow
@settings(max_examples=15, deadline=None)
@given(steps=st.lists(st.sets(st.integers(0, 5)), min_size=1, max_size=6))
def test_table_has_the_given_files(
    tmp_path_factory: pytest.TempPathFactory, steps: list[set[int]]
) -> None:
    folder = tmp_path_factory.mktemp("files")
    files = [a_file(folder, number) for number in range(6)]
    table, exists = folder / "iceberg", False
    for hour, numbers in enumerate(steps):
        exists = exists or bool(numbers)
        now = NOW + timedelta(hours=hour)
        version = publish(
            PyArrowFileIO(),
            f"file://{table}",
            MANAGEMENT,
            [files[number] for number in sorted(numbers)],
            now,
        )
        assert bool(version) == exists
        if exists:
            assert events(table) == sorted(numbers)


def test_unchanged_files_write_nothing(tmp_path: Path) -> None:
    files, table = [a_file(tmp_path, 1)], tmp_path / "iceberg"
    version = publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files, NOW)
    before = metadata(table)
    assert publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files, NOW) == version
    assert metadata(table) == before


def test_members_of_rows_have_their_names(tmp_path: Path) -> None:
    table = tmp_path / "iceberg"
    publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, [a_file(tmp_path, 1)], NOW)
    scan = StaticTable.from_metadata(f"file://{table}").scan(
        row_filter="useridentity.username = 'John'"
    )
    (row,) = scan.to_arrow().to_pylist()
    assert row["useridentity"]["arn"] == "arn:aws:iam::123456789012:user/John"
    assert row["useridentity"]["sessioncontext"] is None
    assert dict(row["requestparameters"]) == {"userName": "Mary"}
    assert row["resources"][0]["type"] == "AWS::S3::Bucket"
    assert row["resources"][0]["arn"] == "arn:aws:s3:::bucket"
    assert row["eventtime"].isoformat() == "2020-01-01T09:00:00"
    assert json.loads(row["eventjson"])["eventID"] == "1"


def test_events_of_channels_have_their_columns(tmp_path: Path) -> None:
    table = f"file://{tmp_path}/iceberg"
    file = written(tmp_path / "a.parquet", an_audit_record(), ACTIVITY)
    publish(PyArrowFileIO(), table, ACTIVITY, [file], NOW)
    (row,) = StaticTable.from_metadata(table).scan().to_arrow().to_pylist()
    assert row["eventdata"]["useridentity"]["principalid"] == "mary@example.com"
    assert row["metadata"]["channelarn"].endswith(":channel/c")


def test_new_columns_are_added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table, file = tmp_path / "iceberg", a_file(tmp_path, 1)
    with monkeypatch.context() as patch:
        older = {name: kind for name, kind in schema(MANAGEMENT).items() if name != "tlsDetails"}
        patch.setattr(iceberg, "schema", lambda _: older)
        publish(
            PyArrowFileIO(), f"file://{table}", MANAGEMENT, [without_tls_details(tmp_path)], NOW
        )
    publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, [file], NOW)
    (row,) = StaticTable.from_metadata(f"file://{table}").scan().to_arrow().to_pylist()
    assert row["tlsdetails"]["tlsversion"] == "TLSv1.3"


def without_tls_details(folder: Path) -> str:
    path = folder / "older.parquet"
    columns = f"SELECT * EXCLUDE (tlsdetails) FROM '{a_file(folder, 0).removeprefix('file://')}'"  # noqa: S608
    duckdb.execute(f"COPY ({columns}) TO '{path}' (FORMAT parquet)")
    return f"file://{path}"


def test_former_snapshots_are_kept_for_running_queries(tmp_path: Path) -> None:
    table, files = tmp_path / "iceberg", [a_file(tmp_path, number) for number in range(3)]
    publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files[:1], NOW)
    running = StaticTable.from_metadata(f"file://{table}")
    publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files[1:], NOW)
    assert running.scan().count() == 1
    former = metadata(table)
    publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files, datetime.now(UTC) + KEPT)
    assert events(table) == [0, 1, 2]
    manifests = {name for name in former if name.endswith(".avro")}
    assert not manifests <= metadata(table)
    assert len(StaticTable.from_metadata(f"file://{table}").snapshots()) == 1


@pytest.mark.parametrize("point", ["iceberg.written", "iceberg.expired"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_interrupted_publication_is_repeated(tmp_path: Path, point: str, count: int) -> None:
    def cut() -> None:
        raise PowerCutError

    table, files = tmp_path / "iceberg", [a_file(tmp_path, number) for number in range(3)]
    now = datetime.now(UTC)
    for hours, numbers in enumerate([[0], [0, 1], [2]]):
        wanted = [files[number] for number in numbers]
        later = now + timedelta(hours=2 * hours)
        faults.arm(point, count, cut)
        with suppress(PowerCutError):
            publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, wanted, later)
        faults.arm(point, sys.maxsize, cut)
        publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, wanted, later)
        assert events(table) == numbers


class Unreachable(PyArrowFileIO):
    """Storage that does not answer."""

    def new_input(self, location: str) -> PyArrowFile:
        raise PermissionError(location)


def test_outage_does_not_begin_another_table(tmp_path: Path) -> None:
    table, files = tmp_path / "iceberg", [a_file(tmp_path, number) for number in range(2)]
    publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files[:1], NOW)
    before = metadata(table)
    with pytest.raises(PermissionError):
        publish(Unreachable(), f"file://{table}", MANAGEMENT, files, NOW)
    assert metadata(table) == before


def a_table(folder: Path) -> tuple[Path, list[str]]:
    """Returns a table after three publications, and its files."""
    table, files = folder / "iceberg", [a_file(folder, number) for number in range(3)]
    for count in (1, 2, 3):
        publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files[:count], NOW)
    return table, files


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def swap(path: Path) -> None:
    other = max(each for each in path.parent.iterdir() if each != path)
    path.write_bytes(other.read_bytes())


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    chance = random.Random(path.name.encode())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [Path.unlink, truncate, swap, flip])
def test_damage_to_any_metadata_is_named_and_mended(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    table, files = a_table(tmp_path)
    names = sorted(metadata(table))
    assert len(names) >= 10
    for number, name in enumerate(names):
        whole = tmp_path / str(number)
        shutil.copytree(table, whole)
        damage(table / "metadata" / name)
        assert [*damaged_in(table / "metadata")] != [], name
        publish(PyArrowFileIO(), f"file://{table}", MANAGEMENT, files, NOW)
        assert [*damaged_in(table / "metadata")] == []
        assert events(table) == [0, 1, 2]
        shutil.rmtree(table)
        whole.rename(table)


def test_copied_table_is_rewritten(tmp_path: Path) -> None:
    table, files = a_table(tmp_path)
    original = {path: path.read_bytes() for path in table.rglob("*") if path.is_file()}
    copy = tmp_path / "copy"
    shutil.copytree(table, copy)
    publish(PyArrowFileIO(), f"file://{copy}", MANAGEMENT, files[:1], NOW + timedelta(hours=3))
    assert events(copy) == [0]
    assert str(table) not in "".join(path.read_text() for path in copy.rglob("*.json"))
    assert {path: path.read_bytes() for path in table.rglob("*") if path.is_file()} == original


@pytest.mark.slow
def test_power_cut_leaves_a_whole_table(tmp_path: Path) -> None:
    found = shutil.which("strace")
    if found is None:
        pytest.skip("strace is not installed: apt-get install strace")
    store = tmp_path / "store"
    store.mkdir()
    table, files = store / "iceberg", [a_file(tmp_path, number) for number in range(2)]
    disk, choose = Disk(store), random.Random(1)
    for number in (1, 2):
        trace = tmp_path / f"trace-{number}"
        command = [sys.executable, "-m", "opentrail.adapters.iceberg", f"file://{table}"]
        command = [*strace(found, trace), *command, MANAGEMENT, *files[:number]]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            assert process.wait(60) == 0
        for place, call in enumerate(calls(trace)):
            disk.apply(call)
            if not disk.paths(call):
                continue
            after = tmp_path / f"cut-{number}-{place}"
            disk.after_cut(after, choose)
            assert [*damaged_in(after / "iceberg" / "metadata")] == []
