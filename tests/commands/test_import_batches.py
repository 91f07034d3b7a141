"""Reading files, large ones in pieces."""

from __future__ import annotations

import gzip
import io
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.commands import import_batches as module
from opentrail.commands.import_batches import TOO_LARGE, Piece, pieces, read_all
from opentrail.commands.import_sources import CANNOT_BE_READ, EMPTY, Found, NotSent, find_files
from opentrail.core.errors import ObjectMissing
from opentrail.imports.batch import BatchFile

LINE = b'{"eventName":"a"}\n'


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 100 bytes; files of at most 1,000."""
    monkeypatch.setattr(module, "PIECE", 100)
    monkeypatch.setattr(module, "LARGEST_FILE", 1000)


class Dripping(io.BytesIO):
    """A pipe: gives at most seven bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(7 if size is None or size < 0 else min(7, size))


def found(content: bytes, is_far: bool = False, name: str = "file") -> Found:
    return Found(name, len(content), lambda: Dripping(content), is_far)


def contents(read: list[Piece]) -> list[bytes]:
    assert all(isinstance(piece, BatchFile) for piece in read)
    return [piece.content for piece in read if isinstance(piece, BatchFile)]


@pytest.mark.usefixtures("small")
def test_a_small_file_is_one_piece() -> None:
    assert list(pieces(found(LINE * 5))) == [BatchFile("file", LINE * 5)]


@pytest.mark.usefixtures("small")
def test_a_large_file_of_lines_is_cut_at_their_ends() -> None:
    read = list(pieces(found(LINE * 50 + b"{}")))
    assert b"".join(contents(read)) == LINE * 50 + b"{}"
    assert all(len(content) <= 200 for content in contents(read))
    lines = 1
    for piece in read:
        assert isinstance(piece, BatchFile)
        assert piece.line == lines
        lines += piece.content.count(b"\n")


@given(st.lists(st.integers(0, 400), min_size=8, max_size=30))
def test_no_byte_of_a_large_file_is_lost(sizes: list[int]) -> None:
    content = LINE + b"".join(b"x" * size + b"\n" for size in sizes) + b"end"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "PIECE", 100)
        read = list(pieces(found(content)))
    assert b"".join(contents(read)) == content
    assert all(part.endswith(b"\n") for part in contents(read)[:-1])


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "content",
    [
        b'{"Records":[' + b'{"a":1},' * 30 + b"{}]}",
        b'{\n "Records": [\n' + b' {"a": 1},\n' * 30 + b" {}]}",
        b"x" * 300,
        gzip.compress(bytes(range(256)) * 2, mtime=0),
    ],
)
def test_a_large_file_of_another_kind_is_sent_whole(content: bytes) -> None:
    assert contents(list(pieces(found(content)))) == [content]


@pytest.mark.usefixtures("small")
def test_a_damaged_first_line_does_not_hide_that_there_are_lines() -> None:
    assert len(contents(list(pieces(found(b'{"cut\n' + LINE * 50))))) > 1


@pytest.mark.usefixtures("small")
def test_a_file_that_is_too_large_is_named() -> None:
    assert list(pieces(found(b"x" * 1001))) == [NotSent("file", TOO_LARGE)]
    assert contents(list(pieces(found(b"x" * 1000)))) == [b"x" * 1000]


@pytest.mark.usefixtures("small")
def test_lines_of_any_number_are_never_too_large() -> None:
    assert b"".join(contents(list(pieces(found(LINE * 500))))) == LINE * 500


@pytest.mark.usefixtures("small")
def test_a_line_that_is_too_large_is_named_where_it_stands() -> None:
    read = list(pieces(found(LINE * 9 + b"x" * 5000)))
    assert b"".join(contents(read[:-1])) == LINE * 9
    assert read[-1] == NotSent("file", TOO_LARGE, "from this line on", 10)


class Failing(io.BytesIO):
    """Fails once its bytes are read."""

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        if not part:
            raise OSError(5, "Input/output error")
        return part


@pytest.mark.usefixtures("small")
def test_a_file_that_cannot_be_read_to_its_end_is_named_from_there() -> None:
    whole = Found("file", 0, lambda: Failing(b"abc"))
    assert list(pieces(whole)) == [NotSent("file", CANNOT_BE_READ, "Input/output error")]
    *read, lost = pieces(Found("file", 0, lambda: Failing(LINE * 20)))
    assert isinstance(lost, NotSent)
    assert lost.line == 1 + b"".join(contents(read)).count(b"\n")
    assert lost.line > 1


def test_a_file_that_cannot_be_opened_is_named() -> None:
    def gone() -> io.BytesIO:
        raise ObjectMissing("NoSuchKey", "s3://b/k: gone")

    assert list(read_all([Found("k", 5, gone, is_far=True)])) == [
        NotSent("k", CANNOT_BE_READ, "NoSuchKey: s3://b/k: gone")
    ]


@pytest.mark.parametrize("far", [False, True])
def test_all_files_come_in_their_order(far: bool) -> None:
    files = [found(b"x%d" % number, far, str(number)) for number in range(200)]
    skipped = NotSent("s", "skipped", is_lost=False)
    read = list(read_all([*files, skipped, found(b"last", name="last")]))
    assert [piece.name for piece in read] == [*(str(n) for n in range(200)), "s", "last"]


def test_files_of_a_store_are_got_at_the_same_time_but_not_all_ahead() -> None:
    gate = threading.Barrier(4, timeout=60)
    asked = []

    def together() -> io.BytesIO:
        gate.wait()
        return io.BytesIO(b"x")

    def alone() -> io.BytesIO:
        return io.BytesIO(b"x")

    def listed() -> Iterator[Found]:
        for number in range(400):
            asked.append(number)
            yield Found(str(number), 1, together if number < 4 else alone, is_far=True)

    reading = read_all(listed())
    next(reading)
    assert len(asked) < 100
    assert len(list(reading)) == 399


@pytest.mark.parametrize(("name", "is_lost"), [("a.json.gz", True), ("a.json", False)])
def test_a_file_without_a_byte_is_named(tmp_path: Path, name: str, is_lost: bool) -> None:
    (tmp_path / name).touch()
    (found,) = find_files([str(tmp_path / name)])
    assert list(read_all([found])) == [NotSent(f"{tmp_path}/{name}", EMPTY, is_lost=is_lost)]
