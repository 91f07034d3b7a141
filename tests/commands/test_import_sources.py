"""Finding what an import names."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentrail.adapters.aws.object_store import S3Key
from opentrail.commands import import_sources
from opentrail.commands.import_sources import Found, NotSent, check, find_files
from opentrail.core.errors import UsageError


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


def test_paths_are_taken_in_their_order(tmp_path: Path) -> None:
    tree = a_tree(tmp_path)
    assert names(tree / "c", tree / "a.json") == [f"{tree}/c/d/e.json", f"{tree}/a.json"]


def test_a_file_that_is_found_tells_its_size_and_is_read(tmp_path: Path) -> None:
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


def test_a_link_that_is_named_is_followed(tmp_path: Path) -> None:
    tree = a_tree(tmp_path / "tree")
    link = tmp_path / "link"
    link.symlink_to(tree / "c")
    assert names(link) == [f"{link}/d/e.json"]


def test_what_is_neither_file_nor_folder_is_skipped_and_counted(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert list(find_files([str(tmp_path)])) == [
        NotSent(f"{tmp_path}/pipe", import_sources.NO_FILE, is_lost=False)
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_a_loss(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0)
    (lost,) = find_files([str(tmp_path)])
    assert lost == NotSent(f"{tmp_path}/closed", import_sources.CANNOT_BE_READ, "Permission denied")


def test_a_name_that_is_no_text_is_shown_by_its_bytes(tmp_path: Path) -> None:
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
def test_a_path_that_names_nothing_is_wrong_use(path: str) -> None:
    with pytest.raises(UsageError):
        check([path])


def test_paths_that_name_something_pass(tmp_path: Path) -> None:
    check([str(tmp_path), "-", "s3://bucket", "s3://bucket/prefix"])


class FakeReader:
    """A store with three keys."""

    def keys(self, bucket: str, prefix: str) -> Iterator[S3Key]:
        assert (bucket, prefix) == ("logs", "AWSLogs/1")
        yield from (S3Key("AWSLogs/1/", 0), S3Key("AWSLogs/1/a", 5), S3Key("AWSLogs/1/b/", 7))


def test_folder_keys_of_a_bucket_are_skipped_if_they_are_empty() -> None:
    empty, *others = find_files(["s3://logs/AWSLogs/1"], FakeReader)  # type: ignore[arg-type]
    assert empty == NotSent("s3://logs/AWSLogs/1/", import_sources.FOLDER_KEY, is_lost=False)
    assert [(one.name, one.size, one.is_far) for one in others if isinstance(one, Found)] == [
        ("s3://logs/AWSLogs/1/a", 5, True),
        ("s3://logs/AWSLogs/1/b/", 7, True),
    ]


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(import_sources, "PIPE_SECONDS", 0)
    os.mkfifo(tmp_path / "pipe")
    (one,) = find_files([str(tmp_path / "pipe")])
    assert isinstance(one, Found)
    with pytest.raises(OSError, match="no process opened the pipe"):
        one.open()


def test_a_pipe_that_is_written_to_is_read_to_its_end(tmp_path: Path) -> None:
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
