"""The two files with the inventory of a data directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.inventory import (
    DirectoryInventory,
    DirectoryProblem,
    Written,
    read_inventory,
    write_inventory,
)

OWN = DirectoryInventory(
    "a" * 32,
    store="b" * 32,
    keys={"signing-1.pem": "f"},
    trails={"arn": {"uid": "u", "organization": ""}},
    problems=(DirectoryProblem("store", "state.db is empty"),),
    serial=3,
)
COPIES = ("inventory.json", "history/inventory.json")


@pytest.fixture
def data(tmp_path: Path) -> DataDirectory:
    data = DataDirectory(tmp_path)
    data.history.mkdir()
    write_inventory(data, OWN)
    return data


def test_it_is_read_unchanged(data: DataDirectory) -> None:
    assert read_inventory(data) == (OWN, [])


def test_an_older_directory_has_no_inventory(tmp_path: Path) -> None:
    assert read_inventory(DataDirectory(tmp_path)) == (None, [])


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def alter(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"uid": "u"', b'"uid": "v"'))


def leave_no_json(path: Path) -> None:
    path.write_bytes(b"\xff\xfe[]")


@pytest.mark.parametrize("copy", COPIES)
@pytest.mark.parametrize("damage", [remove, empty, halve, alter, leave_no_json])
def test_one_copy_suffices_and_the_other_is_named(
    data: DataDirectory, copy: str, damage: Callable[[Path], None]
) -> None:
    damage(data.root / copy)
    found, problems = read_inventory(data)
    assert found == OWN
    state = "missing" if damage is remove else "damaged"
    assert problems == [f"file {copy} is {state}"]


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_another_directory_is_named(
    data: DataDirectory, copy: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = DataDirectory(tmp_path_factory.mktemp("other"))
    other.history.mkdir()
    write_inventory(other, DirectoryInventory("c" * 32, serial=99))
    (data.root / copy).write_bytes((other.root / copy).read_bytes())
    found, problems = read_inventory(data, Written("a" * 32))
    assert found == OWN
    assert problems == [f"file {copy} is of another data directory"]


def test_the_newer_of_two_copies_is_used(data: DataDirectory) -> None:
    newer = DirectoryInventory("a" * 32, store="b" * 32, serial=4)
    (data.history / "inventory.json").write_bytes(newer.to_json())
    assert read_inventory(data) == (newer, [])


def test_both_missing_copies_are_named(data: DataDirectory) -> None:
    for copy in COPIES:
        (data.root / copy).unlink()
    found, problems = read_inventory(data, Written("a" * 32))
    assert found is None
    assert problems == [f"file {copy} is missing" for copy in COPIES]
