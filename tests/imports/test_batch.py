"""Many files in one body."""

import contextlib
import json
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import CloudTrailError
from opentrail.imports import batch
from opentrail.imports.batch import (
    MAX_FILE_BYTES,
    MAX_NAME_LENGTH,
    BatchFile,
    Unpacker,
    pack,
    unpack,
)

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
FILES = st.lists(
    st.builds(BatchFile, NAMES, st.binary(max_size=100), st.integers(1, 2**63)), max_size=5
)


def cut(body: bytes, sizes: Sequence[int]) -> Iterator[bytes]:
    position = 0
    for size in sizes:
        yield body[position : position + size]
        position += size
    yield body[position:]


def refused(body: bytes) -> str:
    with pytest.raises(CloudTrailError) as refusal:
        list(unpack([body]))
    assert refusal.value.code == "InvalidParameterException"
    return str(refusal.value)


@given(FILES, st.lists(st.integers(0, 60)))
def test_packed_data_is_unpacked_in_any_pieces(files: list[BatchFile], sizes: list[int]) -> None:
    assert list(unpack(cut(pack(files), sizes))) == files


@given(FILES, st.data())
def test_cut_body_gives_whole_files_and_an_error(
    files: list[BatchFile], data: st.DataObject
) -> None:
    body = pack(files)
    ends = [len(pack(files[:count])) for count in range(len(files) + 1)]
    end = data.draw(st.integers(0, len(body)))
    got = []
    try:
        for file in unpack([body[:end]]):
            got.append(file)
    except CloudTrailError:
        assert end not in ends
    else:
        assert end in ends
    assert got == files[: len([e for e in ends if e <= end]) - 1]


@given(st.binary(max_size=100))
def test_any_other_body_is_refused_or_nothing(body: bytes) -> None:
    with contextlib.suppress(CloudTrailError):
        assert list(unpack([body])) == [] or b"line" in body


def test_a_whole_file_is_returned_immediately() -> None:
    unpacker = Unpacker()
    body = pack([BatchFile("a", b"12"), BatchFile("b", b"")])
    assert [file.name for file in unpacker.feed(body[:-1])] == ["a"]
    assert [file.name for file in unpacker.feed(body[-1:])] == ["b"]
    unpacker.close()


def test_the_longest_name_passes_and_no_longer_one() -> None:
    (file,) = unpack([pack([BatchFile("é" * MAX_NAME_LENGTH, b"")])])
    assert len(file.name) == MAX_NAME_LENGTH
    assert "name" in refused(pack([BatchFile("e" * (MAX_NAME_LENGTH + 1), b"")]))


@pytest.mark.parametrize(
    ("described", "named"),
    [
        ({}, "described"),
        ([], "described"),
        (None, "described"),
        ({"name": "a", "size": 1}, "described"),
        ({"name": "\ud800", "size": 1, "line": 1}, "described"),
        ({"name": 5, "size": 1, "line": 1}, "described"),
        ({"name": "", "size": 1, "line": 1}, "name"),
        ({"name": "a", "size": -1, "line": 1}, "size"),
        ({"name": "a", "size": True, "line": 1}, "size"),
        ({"name": "a", "size": 1.0, "line": 1}, "size"),
        ({"name": "a", "size": MAX_FILE_BYTES + 1, "line": 1}, "size"),
        ({"name": "a", "size": 1, "line": 0}, "line"),
        ({"name": "a", "size": 1, "line": "1"}, "line"),
    ],
)
def test_a_wrong_description_is_named(described: object, named: str) -> None:
    message = refused(json.dumps(described).encode() + b"\nx")
    assert "file 1" in message
    assert named in message


def test_an_endless_description_is_refused_early() -> None:
    assert "too long" in refused(b"x" * 100_000)
    assert "described" in refused(b"[" * 30_000 + b"\n")


def test_error_of_a_short_body_names_the_position() -> None:
    assert refused(pack([BatchFile("a", b"1234")])[:-1]) == "file 'a' ends after 3 of 4 bytes"
    assert "description" in refused(b'{"name"')


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "MAX_FILES", 2)
    assert len(list(unpack([pack([BatchFile("a", b"")] * 2)]))) == 2
    assert "at most 2 files" in refused(pack([BatchFile("a", b"")] * 3))
