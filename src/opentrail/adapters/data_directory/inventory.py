"""The inventory: the required content of a data directory, to detect missing parts.

It is small and stored twice, in the data directory and next to the sealed files. Only the server
writes it: at its start, and after additions.

A file next to them has the last written positions of journal and control store, so that a lost end
is detected. The server overwrites it after each commit without a sync: it survives a kill, and
after a power cut it may be slightly old, but is never ahead of them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
import threading
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from opentrail.adapters.data_directory.files import DataDirectory, write_durably

WRITTEN_NAME = "written"
_LINE = re.compile(
    rb"([0-9a-f]{32}) position (\d{20}) chain ([0-9a-f]{64}|-{64}) marked (\d{20})"
    rb"(?: revision (\d{20}))? ([0-9a-f]{8})\n"  # no revision: from an older version
)
_NO_CHAIN = b"-" * 64


@dataclass(frozen=True, slots=True)
class Written:
    """The last known writes.

    Args:
        installation: the id of the data directory (`adapters/data_directory/inventory.py`).
        position: the last committed position of the journal.
        chain: the chain at this position; b"" if unknown.
        marked: the position last stored in the control store.
        revision: the last change of a control store in a file.
    """

    installation: str
    position: int = 0
    chain: bytes = b""
    marked: int = 0
    revision: int = 0

    def to_line(self) -> bytes:
        """Returns the content of the file; it always has the same length."""
        return _line(
            self.installation.encode(), self.position, self.chain, self.marked, self.revision
        )

    @classmethod
    def from_line(cls, line: bytes) -> Written | None:
        """Parses the content of a file; None if damaged."""
        match = _LINE.fullmatch(line)
        if match is None or zlib.crc32(line[:-10]) != int(match[6], 16):
            return None
        chain = b"" if match[3].startswith(b"-") else bytes.fromhex(match[3].decode())
        return cls(match[1].decode(), int(match[2]), chain, int(match[4]), int(match[5] or 0))


def _line(installation: bytes, position: int, chain: bytes, marked: int, revision: int) -> bytes:
    # Each group of records waits for this: one step.
    text = b"%b position %020d chain %b marked %020d revision %020d" % (
        installation,
        position,
        chain.hex().encode() if chain else _NO_CHAIN,
        marked,
        revision,
    )
    return b"%b %08x\n" % (text, zlib.crc32(text))


def read_written(root: Path) -> tuple[Written | None, str | None]:
    """Returns the content of a data directory's file, and its error.

    Both are None without a file, as in directories of older versions.
    """
    try:
        content = (root / WRITTEN_NAME).read_bytes()
    except FileNotFoundError:
        return None, None
    except OSError as error:
        return None, f"file {WRITTEN_NAME} cannot be read: {error.strerror}"
    written = Written.from_line(content)
    return written, None if written else f"file {WRITTEN_NAME} is damaged"


class WrittenFile:
    """The file of an open data directory; any thread may use it.

    Raises:
        OSError: it cannot be made.
    """

    def __init__(self, root: Path, written: Written) -> None:
        self._installation = written.installation.encode()
        self._position, self._chain = written.position, written.chain
        self._marked, self._revision = written.marked, written.revision
        self._lock = threading.Lock()
        path = root / WRITTEN_NAME
        write_durably(path, written.to_line())  # at its final size, because disks fill up
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def committed(self, position: int, chain: bytes) -> None:
        """Records the last durable position of the journal."""
        with self._lock:
            self._position, self._chain = position, chain
            self._keep()

    def marked(self, position: int) -> None:
        """Records the position stored in the control store."""
        with self._lock:
            self._marked = position
            self._keep()

    def changed(self, revision: int) -> None:
        """Records the last change of the control store."""
        with self._lock:
            self._revision = revision
            self._keep()

    def _keep(self) -> None:
        if self._descriptor >= 0:
            line = _line(
                self._installation, self._position, self._chain, self._marked, self._revision
            )
            with contextlib.suppress(OSError):  # the existing line is only older
                os.pwrite(self._descriptor, line, 0)

    def close(self) -> None:
        """Closes the file; later notes are discarded."""
        with self._lock:
            if self._descriptor >= 0:
                os.close(self._descriptor)
                self._descriptor = -1


NAME = "inventory.json"
#: An empty file, created by an operator to accept a loss.
ACCEPTED = "losses.accepted"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class DirectoryProblem:
    """A replaced store or journal; it is reported until an operator accepts it.

    `kind` is `store` (another control store), `older` (an older copy of the same control store) or
    `journal` (another journal).
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class DirectoryInventory:
    """The required content of a data directory.

    Args:
        installation: its id, made at the first start.
        store: the required id of the control store; None if unknown.
        state_file: whether the control store is the file `state.db`.
        imported: the number of the last imported event.
        keys: file name of each signing key → its fingerprint.
        trails: ARN of each trail → the members of its document that no call has.
        problems: problems found at a start and not accepted yet.
        serial: number of changes.
    """

    installation: str
    store: str | None = None
    state_file: bool = True
    imported: int = 0
    keys: Mapping[str, str] = field(default_factory=dict)
    trails: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    problems: tuple[DirectoryProblem, ...] = ()
    serial: int = 0

    def to_json(self) -> bytes:
        """Returns the content of a file, with its hash to detect damage."""
        content = asdict(self)
        document = {"format": _FORMAT, "sha256": _hash(content), "holds": content}
        return json.dumps(document, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> DirectoryInventory | None:
        """Returns the inventory in a file; None if it is damaged."""
        try:
            document = json.loads(content)
            holds = document["holds"]
            if document["format"] != _FORMAT or document["sha256"] != _hash(holds):
                return None
            problems = tuple(DirectoryProblem(**problem) for problem in holds["problems"])
            return cls(**{**holds, "problems": problems})
        except (ValueError, KeyError, TypeError):
            return None

    def without(self, *kinds: str) -> DirectoryInventory:
        """Returns the inventory without problems of some kinds."""
        problems = tuple(problem for problem in self.problems if problem.kind not in kinds)
        return replace(self, problems=problems)

    def with_problem(self, problem: DirectoryProblem) -> DirectoryInventory:
        """Returns the inventory with a problem, which replaces any of the same kind."""
        return replace(self, problems=(*self.without(problem.kind).problems, problem))


def new_installation() -> str:
    """Returns the id of a new data directory."""
    return secrets.token_hex(16)


def read_inventory(
    data: DataDirectory, written: Written | None = None
) -> tuple[DirectoryInventory | None, list[str]]:
    """Returns the newest inventory of a data directory, and the errors of its two files.

    Directories of older versions have none.

    Args:
        data: the data directory.
        written: the content of the file `written`, which names the directory's installation.
    """
    inventories: dict[str, DirectoryInventory] = {}
    problems: list[str] = []
    missing: list[str] = []
    for path in _paths(data):
        name = path.relative_to(data.root).as_posix()
        try:
            inventory = DirectoryInventory.from_json(path.read_bytes())
        except FileNotFoundError:
            missing.append(name)
            continue
        except OSError as error:
            problems.append(f"file {name} cannot be read: {error.strerror}")
            continue
        if inventory is None:
            problems.append(f"file {name} is damaged")
        else:
            inventories[name] = inventory
    if inventories or written is not None:
        problems += [f"file {name} is missing" for name in missing]
    newest = _newest(list(inventories.values()), written)
    if newest is not None:
        strange = [
            n for n, other in inventories.items() if other.installation != newest.installation
        ]
        problems += [f"file {name} is of another data directory" for name in strange]
    return newest, problems


def write_inventory(data: DataDirectory, inventory: DirectoryInventory) -> None:
    """Writes both files.

    Raises:
        OSError: one cannot be written.
    """
    for path in _paths(data):
        write_durably(path, inventory.to_json())


def _paths(data: DataDirectory) -> tuple[Path, ...]:
    return data.root / NAME, data.history / NAME


def _newest(
    inventories: Sequence[DirectoryInventory], written: Written | None
) -> DirectoryInventory | None:
    own = [
        inventory
        for inventory in inventories
        if written and inventory.installation == written.installation
    ]
    return max(own or inventories, key=lambda inventory: inventory.serial, default=None)


def _hash(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
