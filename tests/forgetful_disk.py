"""A disk that forgets unsynced changes, as at a power cut.

`strace` lists a process's system calls. `Disk` repeats the calls that change files below a
folder, and knows which changes were durable at each moment.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: Calls that change files, make changes durable, or send answers.
TRACED = (
    "openat,creat,lseek,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,sync_file_range,"
    "ftruncate,truncate,fallocate,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,"
    "link,linkat,symlink,symlinkat,copy_file_range,sendfile,sendto,sendmsg"
)
_SECTOR = 512
_LINE = re.compile(r"(\d+) +(.*)\Z", re.S)
_RESUMED = re.compile(r"<\.\.\. (\w+) resumed>(.*)\Z", re.S)
_UNFINISHED = " <unfinished ...>"
_CALL = re.compile(r"(\w+)\((.*)\) += (-?\d+|\?)(?:<.*>)?(?: \w+ \(.*\))?\Z", re.S)
_OF_FD = re.compile(r"\d+<([^>]*)>")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_FLAGS = re.compile(r"\b(O_[A-Z_|]+)")


def strace(program: str, output: Path) -> tuple[str, ...]:
    """Returns the start of a command line whose process, with its children, is traced."""
    return (
        *(program, "-f", "-qq", "-y", "-xx", "-s", str(1 << 24)),
        *("-e", f"trace={TRACED}", "-e", "signal=none", "-o", str(output)),
    )


@dataclass(frozen=True, slots=True)
class Call:
    """A finished system call."""

    name: str
    arguments: str
    result: int
    #: The number of calls that had finished when it began.
    began: int

    def texts(self) -> list[bytes]:
        """Returns its strings."""
        return [bytes.fromhex(text.replace("\\x", "")) for text in _TEXT.findall(self.arguments)]


def calls(trace: Path) -> Iterator[Call]:
    """Yields the successful calls of a trace in the order in which they finished."""
    begun: dict[str, tuple[str, int]] = {}
    count = 0
    with trace.open() as lines:
        for line in lines:
            found = _LINE.match(line.rstrip("\n"))
            assert found, line[:200]
            thread, text = found.groups()
            began = count
            if resumed := _RESUMED.match(text):
                start, began = begun.pop(thread)
                text = start + resumed[2]
            elif text.endswith(_UNFINISHED):
                begun[thread] = (text.removesuffix(_UNFINISHED), count)
                continue
            call = _CALL.match(text)
            if call is None or call[3] == "?" or int(call[3]) < 0:
                continue
            count += 1
            yield Call(call[1], call[2], int(call[3]), began)


@dataclass
class _File:
    durable: bytearray = field(default_factory=bytearray)
    #: Changes since: the number of the call, an offset, and data; None cuts the file there.
    pending: list[tuple[int, int, bytes | None]] = field(default_factory=list)
    offset: int = 0
    appends: bool = False

    def content(self, changes: list[tuple[int, int, bytes | None]] | None = None) -> bytearray:
        made = bytearray(self.durable)
        for _, offset, data in self.pending if changes is None else changes:
            _change(made, offset, data)
        return made

    def sync(self, last: int) -> None:
        done = [each for each in self.pending if each[0] <= last]
        self.durable = self.content(done)
        self.pending = self.pending[len(done) :]


def _change(content: bytearray, offset: int, data: bytes | None) -> None:
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


class Disk:
    """The files below a folder, after the calls so far.

    Args:
        folder: the folder, which is empty before the first call.
    """

    def __init__(self, folder: Path) -> None:
        self._root = str(folder)
        self._count = 0
        self._names: dict[str, _File | None] = {self._root: None}
        self._durable_names: dict[str, _File | None] = {self._root: None}
        #: Changes of names since: the number of the call, the folders, and the names that changed.
        self._pending: list[tuple[int, frozenset[str], dict[str, _File | bool | None]]] = []

    def apply(self, call: Call) -> None:
        """Repeats a call.

        Raises:
            NotImplementedError: it changes a file in a way that is not repeated here.
        """
        self._count += 1
        paths = self.paths(call)
        if not paths:
            return
        method = getattr(self, f"_{call.name}", None)
        if method is None:
            raise NotImplementedError(f"{call.name}({call.arguments[:200]})")
        method(call, paths)

    def paths(self, call: Call) -> list[str]:
        """Returns the paths below the folder that a call names or has open."""
        return [path for path in self._paths(call) if self._is_below(path)]

    def _paths(self, call: Call) -> list[str]:
        if call.name in _BY_NAME:
            folders = _OF_FD.findall(call.arguments)
            texts = [text.decode() for text in call.texts()]
            return [
                text if text.startswith("/") or not folders else f"{_decoded(folders[0])}/{text}"
                for text in texts
            ]
        return [_decoded(path) for path in _OF_FD.findall(call.arguments)[:1]]

    def _is_below(self, path: str) -> bool:
        return path == self._root or path.startswith(f"{self._root}/")

    # Names

    def _change_names(self, changed: dict[str, _File | bool | None]) -> None:
        """Changes names: to a file, to None for a folder, or to False for no more."""
        folders = frozenset(path.rpartition("/")[0] for path in changed)
        self._pending.append((self._count, folders, changed))
        _set_names(self._names, changed)

    def _openat(self, call: Call, paths: list[str]) -> None:
        found = _FLAGS.search(_TEXT.sub("", call.arguments))
        flags = found[1] if found else ""
        [path] = paths
        if path not in self._names:
            if "O_CREAT" not in flags:
                return
            self._change_names({path: _File()})
        file = self._names[path]
        if file is None:
            return
        file.offset, file.appends = 0, "O_APPEND" in flags
        if "O_TRUNC" in flags:
            file.pending.append((self._count, 0, None))

    def _mkdir(self, _call: Call, paths: list[str]) -> None:
        self._change_names({paths[0]: None})

    _mkdirat = _mkdir

    def _unlink(self, _call: Call, paths: list[str]) -> None:
        self._change_names({paths[0]: False})

    _unlinkat = _rmdir = _unlink

    def _link(self, _call: Call, paths: list[str]) -> None:
        old, new = paths
        self._change_names({new: self._names[old]})

    _linkat = _link

    def _rename(self, _call: Call, paths: list[str]) -> None:
        old, new = paths
        moved: dict[str, _File | bool | None] = {}
        for path, file in self._names.items():
            if path == old or path.startswith(f"{old}/"):
                moved[path] = False
                moved[new + path[len(old) :]] = file
        self._change_names(moved)

    _renameat = _renameat2 = _rename

    # Contents

    def _file(self, path: str) -> _File | None:
        return self._names.get(path)

    def _lseek(self, call: Call, paths: list[str]) -> None:
        if file := self._file(paths[0]):
            file.offset = call.result

    def _write(self, call: Call, paths: list[str]) -> None:
        file = self._file(paths[0])
        if file is None:  # it was unlinked
            return
        data = b"".join(call.texts())[: call.result]
        offset = len(file.content()) if file.appends else file.offset
        file.pending.append((self._count, offset, data))
        file.offset = offset + len(data)

    _writev = _write

    def _pwrite64(self, call: Call, paths: list[str]) -> None:
        if file := self._file(paths[0]):
            data = b"".join(call.texts())[: call.result]
            offset = int(call.arguments.rpartition(",")[2])
            file.pending.append((self._count, offset, data))

    _pwritev = _pwrite64

    def _ftruncate(self, call: Call, paths: list[str]) -> None:
        if file := self._file(paths[0]):
            size = int(call.arguments.rpartition(",")[2])
            file.pending.append((self._count, size, None))
            file.pending.append((self._count, size, b""))

    def _fallocate(self, call: Call, paths: list[str]) -> None:
        if file := self._file(paths[0]):
            mode, offset, length = call.arguments.rsplit(",", 3)[-3:]
            assert mode.strip() == "0", call.arguments
            end = int(offset) + int(length)
            if len(file.content()) < end:
                file.pending.append((self._count, end, b""))

    # Syncs

    def _fsync(self, call: Call, paths: list[str]) -> None:
        path = paths[0]
        if file := self._file(path):
            file.sync(call.began)
            return
        left = []
        for change in self._pending:
            number, folders, names = change
            if number <= call.began and path in folders:
                _set_names(self._durable_names, names)
            else:
                left.append(change)
        self._pending = left

    _fdatasync = _fsync

    # What would be lost

    def unsynced(self, path: str) -> bool:
        """Returns whether the file's content has changes without a sync."""
        file = self._file(path)
        return file is not None and bool(file.pending)

    def unsynced_names(self) -> set[str]:
        """Returns the names that files got without a later sync of the folder."""
        return {path for _, _, changed in self._pending for path, file in changed.items() if file}

    # After the cut

    def after_cut(self, folder: Path, choose: random.Random) -> None:
        """Writes the files as a power cut at this moment leaves them.

        Of changes without a sync some are there: of names the first ones, of contents any, each
        whole or up to some sector.

        Args:
            folder: the folder to make.
            choose: chooses among them.
        """
        share = choose.choice((0.0, 0.5, 1.0))
        names = dict(self._durable_names)
        for _, _, changed in self._pending[: round(share * choose.random() * len(self._pending))]:
            _set_names(names, changed)
        for path in sorted(names):
            file, target = names[path], folder / path[len(self._root) :].lstrip("/")
            if file is None:
                target.mkdir(0o700, parents=True, exist_ok=True)
                continue
            kept = []
            for number, offset, data in file.pending:
                if choose.random() >= share:
                    continue
                if data and choose.random() < 0.1:
                    data = data[: choose.randrange(len(data)) // _SECTOR * _SECTOR]
                kept.append((number, offset, data))
            if target.parent.is_dir():
                target.write_bytes(file.content(kept))
                target.chmod(0o600)


#: Calls whose files are named by their arguments, not by a descriptor.
_BY_NAME = frozenset(
    {
        *("openat", "creat", "truncate", "rename", "renameat", "renameat2", "unlink", "unlinkat"),
        *("mkdir", "mkdirat", "rmdir", "link", "linkat", "symlink", "symlinkat"),
    }
)


def _decoded(path: str) -> str:
    """Returns a path that `-xx` escaped."""
    if not path.startswith("\\x"):
        return path
    return bytes.fromhex(path.replace("\\x", "")).decode(errors="replace")


def _set_names(names: dict[str, _File | None], changed: dict[str, _File | bool | None]) -> None:
    for path, file in changed.items():
        if file is False:
            names.pop(path, None)
        else:
            assert file is not True
            names[path] = file
