"""The file with the last written position of the journal."""

from __future__ import annotations

from pathlib import Path

from opentrail.adapters.data_directory.inventory import (
    WRITTEN_NAME,
    Written,
    WrittenFile,
    read_written,
)

OWN = "0123456789abcdef" * 2


def test_notes_are_read_again(tmp_path: Path) -> None:
    assert read_written(tmp_path) == (None, None)
    file = WrittenFile(tmp_path, Written(OWN))
    assert read_written(tmp_path) == (Written(OWN), None)
    file.committed(7, b"\1" * 32)
    file.marked(5)
    file.close()
    file.committed(8, b"\2" * 32)
    assert read_written(tmp_path) == (Written(OWN, 7, b"\1" * 32, 5), None)


def test_no_changed_byte_is_believed(tmp_path: Path) -> None:
    line = Written(OWN, 123, b"\3" * 32, 120).to_line()
    assert Written.from_line(line) == Written(OWN, 123, b"\3" * 32, 120)
    for at in range(len(line)):
        changed = line[:at] + bytes([line[at] ^ 1]) + line[at + 1 :]
        assert Written.from_line(changed) is None
        assert Written.from_line(line[:at]) is None
    (tmp_path / WRITTEN_NAME).write_bytes(line[:50])
    assert read_written(tmp_path) == (None, "file written is damaged")


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / WRITTEN_NAME).mkdir()
    written, problem = read_written(tmp_path)
    assert written is None
    assert problem is not None
    assert problem.startswith("file written cannot be read")
