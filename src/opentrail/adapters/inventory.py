"""The inventory: what a data directory must hold, so that what is gone is noticed.

It is small and kept twice, in the data directory and beside the sealed files. The server alone
writes it: at its start, and when something was added.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from opentrail.adapters.files import DataDirectory, write_durably
from opentrail.adapters.written_file import Written

NAME = "inventory.json"
#: An empty file with which an operator accepts what was lost.
ACCEPTED = "losses.accepted"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class DirectoryProblem:
    """Something that is not as it was; it counts until it is accepted.

    `kind` is `store` (the control store is another one), `older` (it is an older copy of itself)
    or `journal` (the journal is another one).
    """

    kind: str
    text: str


@dataclass(frozen=True, slots=True)
class DirectoryInventory:
    """What a data directory must hold.

    Args:
        installation: its id, made at the first start.
        store: the id that the control store must have; None if it is not known.
        state_file: whether the control store is the file `state.db`.
        imported: the number of the last imported event.
        keys: file name of each signing key → its fingerprint.
        trails: ARN of each trail → the members of its document that no call has.
        problems: what was found at a start and not accepted yet.
        serial: how often it was changed.
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
        """Returns the content of a file: with its hash, so that damage shows."""
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
        """Returns the inventory with a problem, of which it has one of a kind."""
        return replace(self, problems=(*self.without(problem.kind).problems, problem))


def new_installation() -> str:
    """Returns the id of a new data directory."""
    return secrets.token_hex(16)


def read_inventory(
    data: DataDirectory, written: Written | None = None
) -> tuple[DirectoryInventory | None, list[str]]:
    """Returns the newest inventory of a data directory, and what is wrong with its two files.

    There is none in a directory of an older version.

    Args:
        data: the data directory.
        written: what the file `written` says: of whose installation the directory is.
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
