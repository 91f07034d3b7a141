"""Finding the files of an import, and reading them, large ones in pieces."""

from __future__ import annotations

import gzip
import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.adapters.aws.object_store import S3Key
from opentrail.commands import import_sources
from opentrail.commands.import_sources import (
    CANNOT_BE_READ,
    TOO_LARGE,
    Found,
    NotSent,
    Piece,
    check,
    find_files,
    pieces,
    read_all,
)
from opentrail.core.errors import ObjectMissing, UsageError
from opentrail.imports.batch import EMPTY, BatchFile


def names(*paths: object) -> list[str]:
    return [one.name for one in find_files([str(path) for path in paths])]


def a_tree(folder: Path) -> Path:
    for name in ("b/2.json", "b/1.json", "a.json", "c/d/e.json", "B.json"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def test_a_folder_is_walked_in_sorted_order(tmp_path: Path) -> None:
    tree = a_tree(tmp_path)
    relative = [os.path.relpath(name, tree) for name in names(tree)]
    assert relative == ["B.json", "a.json", "b/1.json", "b/2.json", "c/d/e.json"]


def test_paths_are_read_in_their_order(tmp_path: Path) -> None:
    tree = a_tree(tmp_path)
    assert names(tree / "c", tree / "a.json") == [f"{tree}/c/d/e.json", f"{tree}/a.json"]


def test_found_file_has_its_size_and_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    (one,) = find_files([str(tmp_path)])
    assert isinstance(one, Found)
    assert one.size == 5
    stream = one.open()
    assert stream.read(100) == b"12345"
    stream.close()


def test_links_in_a_folder_are_skipped_and_counted(tmp_path: Path) -> None:
    inside = tmp_path / "inside"
    (inside / "sub").mkdir(parents=True)
    (tmp_path / "outside.json").write_text("secret")
    (inside / "file").symlink_to(tmp_path / "outside.json")
    (inside / "folder").symlink_to(tmp_path)
    (inside / "loop").symlink_to(inside)
    (inside / "nowhere").symlink_to("gone")
    assert list(find_files([str(inside)])) == [
        NotSent(f"{inside}/{name}", import_sources.LINK, is_lost=False)
        for name in ("file", "folder", "loop", "nowhere")
    ]


def test_a_given_link_is_followed(tmp_path: Path) -> None:
    tree = a_tree(tmp_path / "tree")
    link = tmp_path / "link"
    link.symlink_to(tree / "c")
    assert names(link) == [f"{link}/d/e.json"]


def test_special_files_are_skipped_and_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert list(find_files([str(tmp_path)])) == [
        NotSent(f"{tmp_path}/pipe", import_sources.NO_FILE, is_lost=False)
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_folder_is_a_loss(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (lost,) = find_files([str(tmp_path)])
    assert lost == NotSent(f"{tmp_path}/closed", import_sources.CANNOT_BE_READ, "Permission denied")


def test_an_undecodable_name_is_printed_as_bytes(tmp_path: Path) -> None:
    (Path(os.fsdecode(bytes(tmp_path) + b"/a\xff"))).write_text("x")
    (one,) = find_files([str(tmp_path)])
    assert isinstance(one, Found)
    assert one.name == f"{tmp_path}/a\\xff"
    one.open().close()


def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["d"] * 300)
    deep.mkdir(parents=True)
    (deep / "a").write_text("x")
    assert len(names(tmp_path)) == 1


@pytest.mark.parametrize("path", ["gone", "s3://", "s3:///prefix", ""])
def test_a_path_without_files_is_wrong_use(path: str) -> None:
    with pytest.raises(UsageError):
        check([path])


def test_paths_with_files_pass(tmp_path: Path) -> None:
    check([str(tmp_path), "-", "s3://bucket", "s3://bucket/prefix"])


class FakeReader:
    """A store with three keys."""

    def keys(self, bucket: str, prefix: str) -> Iterator[S3Key]:
        assert (bucket, prefix) == ("logs", "AWSLogs/1")
        yield from (S3Key("AWSLogs/1/", 0), S3Key("AWSLogs/1/a", 5), S3Key("AWSLogs/1/b/", 7))


def test_empty_folder_keys_of_a_bucket_are_skipped() -> None:
    empty, *others = find_files(["s3://logs/AWSLogs/1"], FakeReader)  # type: ignore[arg-type]
    assert empty == NotSent("s3://logs/AWSLogs/1/", import_sources.FOLDER_KEY, is_lost=False)
    assert [(one.name, one.size, one.is_far) for one in others if isinstance(one, Found)] == [
        ("s3://logs/AWSLogs/1/a", 5, True),
        ("s3://logs/AWSLogs/1/b/", 7, True),
    ]


def test_a_pipe_without_a_writer_times_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_sources, "PIPE_SECONDS", 0)
    os.mkfifo(tmp_path / "pipe")
    (one,) = find_files([str(tmp_path / "pipe")])
    assert isinstance(one, Found)
    with pytest.raises(OSError, match="no process opened the pipe"):
        one.open()


def test_a_pipe_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    content = b"x" * 200_000
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()
    (one,) = find_files([str(path)])
    assert isinstance(one, Found)
    stream = one.open()
    received = b""
    while part := stream.read(70_000):
        received += part
    stream.close()
    writer.join()
    assert received == content


def test_a_device_or_socket_is_no_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as end:
        end.bind(str(tmp_path / "s"))
        assert list(find_files([str(tmp_path / "s")])) == [
            NotSent(f"{tmp_path}/s", import_sources.NO_FILE, is_lost=True)
        ]


LINE = b'{"eventName":"a"}\n'


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pieces of 100 bytes; files of at most 1,000."""
    monkeypatch.setattr(import_sources, "PIECE", 100)
    monkeypatch.setattr(import_sources, "MAX_FILE_BYTES", 1000)


class Dripping(io.BytesIO):
    """A pipe: returns at most seven bytes at a time."""

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
def test_a_large_file_is_split_between_lines() -> None:
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
        patched.setattr(import_sources, "PIECE", 100)
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
def test_large_file_of_another_kind_is_sent_whole(content: bytes) -> None:
    assert contents(list(pieces(found(content)))) == [content]


@pytest.mark.usefixtures("small")
def test_a_damaged_first_line_does_not_hide_others() -> None:
    assert len(contents(list(pieces(found(b'{"cut\n' + LINE * 50))))) > 1


@pytest.mark.usefixtures("small")
def test_an_oversized_file_is_named() -> None:
    assert list(pieces(found(b"x" * 1001))) == [NotSent("file", TOO_LARGE)]
    assert contents(list(pieces(found(b"x" * 1000)))) == [b"x" * 1000]


@pytest.mark.usefixtures("small")
def test_any_number_of_lines_is_accepted() -> None:
    assert b"".join(contents(list(pieces(found(LINE * 500))))) == LINE * 500


@pytest.mark.usefixtures("small")
def test_an_oversized_line_is_reported_with_its_number() -> None:
    read = list(pieces(found(LINE * 9 + b"x" * 5000)))
    assert b"".join(contents(read[:-1])) == LINE * 9
    assert read[-1] == NotSent("file", TOO_LARGE, "from this line on", 10)


class Failing(io.BytesIO):
    """Fails after its last byte."""

    def read(self, size: int | None = -1, /) -> bytes:
        part = super().read(size)
        if not part:
            raise OSError(5, "Input/output error")
        return part


@pytest.mark.usefixtures("small")
def test_partly_readable_file_is_named_with_the_place() -> None:
    whole = Found("file", 0, lambda: Failing(b"abc"))
    assert list(pieces(whole)) == [NotSent("file", CANNOT_BE_READ, "Input/output error")]
    *read, lost = pieces(Found("file", 0, lambda: Failing(LINE * 20)))
    assert isinstance(lost, NotSent)
    assert lost.line == 1 + b"".join(contents(read)).count(b"\n")
    assert lost.line > 1


def test_an_unreadable_file_is_named() -> None:
    def gone() -> io.BytesIO:
        raise ObjectMissing("NoSuchKey", "s3://b/k: gone")

    assert list(read_all([Found("k", 5, gone, is_far=True)])) == [
        NotSent("k", CANNOT_BE_READ, "NoSuchKey: s3://b/k: gone")
    ]


@pytest.mark.parametrize("far", [False, True])
def test_all_files_are_read_in_order(far: bool) -> None:
    files = [found(b"x%d" % number, far, str(number)) for number in range(200)]
    skipped = NotSent("s", "skipped", is_lost=False)
    read = list(read_all([*files, skipped, found(b"last", name="last")]))
    assert [piece.name for piece in read] == [*(str(n) for n in range(200)), "s", "last"]


def test_a_stores_files_are_prefetched_within_a_limit() -> None:
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
