"""The inventory: a data directory's required content, compared at the start and updated later.

A lost control store loses trails, keys, policies and users without an error. The inventory and the
file `written`, which are outside it, reveal the loss.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.inventory import (
    ACCEPTED,
    DirectoryInventory,
    DirectoryProblem,
    Written,
    WrittenFile,
    new_installation,
    read_inventory,
    read_written,
    write_inventory,
)
from opentrail.adapters.data_directory.sealed_file_names import Series, sealed_files
from opentrail.adapters.data_directory.unrecorded_counts import DamagedGap, kept_gaps
from opentrail.adapters.keys.rsa import acknowledged_keys, known_keys
from opentrail.adapters.keys.sealing import master_key_in
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.adapters.sql.databases import revisions_behind
from opentrail.adapters.sqlite.segments import chain_of, holds_entries
from opentrail.app.known_positions import known_imports, marked_position
from opentrail.core.errors import Conflict, StateLost, StorageFailed, UsageError
from opentrail.core.logs import attempt
from opentrail.ports.control import ControlStore, Put
from opentrail.ports.journal import UNKNOWN_CHAIN, JournalSource

log = logging.getLogger(__name__)

#: Seconds between two checks for additions, and for accepted losses.
_INTERVAL = 5.0
#: Kind of the document with a control store's id.
_MARK = "mark"
#: Its key.
_STORE = "store"
#: The key of the document in a cluster's control store.
_CLUSTER = "cluster"
#: The master key file, among the signing key files.
_MASTER = "master.key"
#: Kinds of problems of the control store.
STORE_KINDS = ("store", "older")


@dataclass(frozen=True, slots=True)
class _StoreState:
    """The content and place of a control store, and whether there are records."""

    is_empty: bool
    #: Its id; None for a version without ids.
    store: str | None
    marked: int | None
    revision: int
    has_records: bool
    in_file: bool

    @property
    def name(self) -> str:
        return "the control store state.db" if self.in_file else "the control store"


class DataInventory:
    """Compares a server's data directory with its inventory, and maintains the inventory.

    Args:
        data: the open data directory.
        control: the control store.
        in_file: whether the control store is `state.db`.
    """

    def __init__(self, data: DataDirectory, control: SqlControl, in_file: bool) -> None:
        self._data = data
        self._control = control
        self._in_file = in_file
        self._file: WrittenFile | None = None
        inventory, self._written, problems, of_written = _read(data)
        self._is_new = inventory is None
        installation = self._written.installation if self._written else new_installation()
        self._inventory = inventory or DirectoryInventory(installation)
        self._known_keys: frozenset[str] = frozenset()
        #: The files do not have the inventory yet.
        self._is_outdated = inventory is None or bool(problems)
        for problem in [*problems, *of_written]:
            log.warning("file changed or missing; rebuilding it", extra={"problem": problem})

    @property
    def written(self) -> int:
        """The last position known to be written, by these files."""
        return self._written.position if self._written else 0

    @property
    def installation(self) -> str:
        """The id of the data directory."""
        return self._inventory.installation

    @property
    def imported(self) -> int:
        """The number of the last imported event, by these files."""
        return self._inventory.imported

    @property
    def problems(self) -> list[str]:
        """Losses and replacements not yet accepted, for operators; without paths."""
        keys = _key_problems(self._inventory, self._data.keys, self._known_keys, self._in_file)
        return [*(problem.text for problem in self._inventory.problems), *keys]

    async def verify(self, head: int, journal: JournalSource) -> None:
        """Compares control store and journal with the inventory, before anything is added.

        Args:
            head: the last position of the opened journal.
            journal: the last write to the journal.

        Raises:
            StorageFailed: the control store or the inventory cannot be read or written.
        """
        inventory, written = self._inventory, self._written
        state = await _state_of(self._control, head > 0, self._in_file)
        problem = store_problem(None if self._is_new else inventory, written, state)
        if problem is not None:
            inventory = inventory.with_problem(problem)
        elif inventory.store is not None:
            inventory = inventory.without("store")  # the previous store is back
        strange = await asyncio.to_thread(journal_problem, journal.chain_at, written)
        if strange is not None:
            inventory = inventory.with_problem(strange)
        for item in inventory.problems:
            log.error("data directory changed", extra={"problem": item.text})
        try:
            await self.refresh(replace(inventory, state_file=self._in_file))
            chain = await asyncio.to_thread(journal.chain_at, head)
            mark, revision = state.marked or 0, await self._control.revision()
            if written and self._is_frozen:
                mark, revision = written.marked, written.revision
            line = Written(self._inventory.installation, head, chain, mark, revision)
            self._file = await asyncio.to_thread(WrittenFile, self._data.root, line)
        except OSError as error:
            raise StorageFailed(f"the inventory cannot be written: {error}") from error

    def require_store(self) -> None:
        """Returns if the control store is unchanged since the last start.

        Raises:
            StateLost: it was replaced, and no operator accepted that.
        """
        texts = [
            problem.text for problem in self._inventory.problems if problem.kind in STORE_KINDS
        ]
        if texts:
            raise StateLost(
                f"data directory {self._data.root}: with --auth verify or enforced the "
                f"server does not start while {texts[0]}; restore the previous control store, or "
                "accept the loss: opentrail doctor --accept-losses"
            )

    async def require_own_store(self) -> None:
        """Returns if the control store still belongs to this data directory.

        Raises:
            StateLost: it was emptied or replaced while the server ran.
            StorageFailed: it cannot be read.
        """
        if await _store_id(self._control) != self._inventory.store:
            raise StateLost(f"the control store was replaced: {_GONE}")

    def record_committed(self, position: int, chain: bytes) -> None:
        """Records the last durable position; called by the journal's thread."""
        if self._file is not None:
            self._file.committed(position, chain)

    def record_marked(self, position: int) -> None:
        """Records the position marked in the control store."""
        if self._file is not None and not self._is_frozen:
            self._file.marked(position)

    def record_changed(self, revision: int) -> None:
        """Records a change of the control store; called by the writing thread."""
        if self._file is not None and not self._is_frozen:
            self._file.changed(revision)

    @property
    def _is_frozen(self) -> bool:
        """Whether to keep the notes of a lost control store, until an operator accepts the loss."""
        return any(problem.kind in STORE_KINDS for problem in self._inventory.problems)

    async def keep(self, fail: Callable[[str], None]) -> None:
        """Repeats `refresh`, and ends the server with `fail` if its folder was replaced.

        Another server may lock the new folder.
        """
        while True:
            await asyncio.sleep(_INTERVAL)
            if self._data.is_replaced:
                fail(f"data directory {self._data.root} was moved or replaced while it was in use")
                return
            await self._try_refresh()

    async def _try_refresh(self) -> None:
        await attempt(self.refresh(), "the inventory cannot be updated")

    async def refresh(self, verified: DirectoryInventory | None = None) -> None:
        """Adds new keys and trails to the inventory; applies an acceptance of losses.

        Raises:
            StorageFailed: the control store cannot be read or written.
            OSError: the inventory cannot be written.
        """
        inventory, acceptance = verified or self._inventory, self._data.root / ACCEPTED
        is_accepted = acceptance.exists()
        if is_accepted:
            lost = [problem.text for problem in inventory.problems]
            log.warning("an operator accepted losses", extra={"problems": lost})
            inventory = replace(inventory, problems=(), store=None, keys={}, trails={})
        is_frozen = any(problem.kind in STORE_KINDS for problem in inventory.problems)
        if not is_frozen and inventory.store is None:
            inventory = replace(inventory, store=await self.ensure_store_id())
        signing_keys = await known_keys(self._control)
        self._known_keys = frozenset(signing_keys)
        trails: dict[str, Mapping[str, Any]] = {}
        for stored in await self._control.scan("trail"):
            account, region, name = stored.key.split("/")
            arn = f"arn:aws:cloudtrail:{region}:{account}:trail/{name}"
            members = ("uid", "organization")
            trails[arn] = {member: stored.document.get(member, "") for member in members}
        keys = {name: key.fingerprint for name, key in signing_keys.items()}
        keys = {**inventory.keys, **keys}
        if not self._in_file:
            keys.pop(_MASTER, None)  # the control store lists the shared ones
        elif _MASTER not in keys:
            master = await asyncio.to_thread(master_key_in, self._data.keys / _MASTER)
            keys.update({_MASTER: master} if master else {})
        inventory = replace(
            inventory,
            imported=max(inventory.imported, await known_imports(self._control)),
            keys=keys,
            trails={**inventory.trails, **trails} if is_frozen else trails,
        )
        await self._store_inventory(inventory)
        if is_accepted:
            self.record_changed(await self._control.revision())
            await asyncio.to_thread(acceptance.unlink, missing_ok=True)

    async def _store_inventory(self, inventory: DirectoryInventory) -> None:
        if self._data.is_replaced:
            raise StorageFailed("the data directory was replaced after it was locked")
        if self._is_outdated or inventory != self._inventory:
            inventory = replace(inventory, serial=self._inventory.serial + 1)
            await asyncio.to_thread(write_inventory, self._data, inventory)
            self._inventory, self._is_outdated = inventory, False

    async def require_known_store(self) -> None:
        """Returns unless the control store of a cluster was emptied.

        Raises:
            StateLost: it was.
        """
        if self._inventory.store is not None and await _store_id(self._control) is None:
            raise StateLost(
                f"the control store is unexpectedly empty: {_GONE}; restore the database of the "
                "cluster from a backup"
            )

    async def ensure_store_id(self) -> str:
        """Returns the id of the control store; creates a missing one."""
        while (store := await _store_id(self._control)) is None:
            new = {"id": secrets.token_hex(16)}
            with contextlib.suppress(Conflict):  # another server has created one
                await self._control.apply([Put(_MARK, _STORE, new, expected=0)])
        return store

    async def close(self) -> None:
        """Updates the inventory for the last time."""
        if self._file is not None:
            await self._try_refresh()
            self._file.close()


def _read(
    data: DataDirectory,
) -> tuple[DirectoryInventory | None, Written | None, list[str], list[str]]:
    """Returns the inventory, the content of the file `written`, and the problems of the files.

    Skips the notes of another data directory.
    """
    written, problem = read_written(data.root)
    inventory, problems = read_inventory(data, written)
    if inventory is not None and written is None and problem is None:
        problem = "file written is missing"
    elif inventory is not None and written and written.installation != inventory.installation:
        written, problem = None, "file written is of another data directory"
    return inventory, written, problems, [problem] if problem else []


async def mark_for_cluster(control: ControlStore) -> None:
    """Marks the control store of a cluster, for `require_no_cluster`."""
    if await control.get(_MARK, _CLUSTER) is None:
        with contextlib.suppress(Conflict):  # another server has marked it
            await control.apply([Put(_MARK, _CLUSTER, {}, expected=0)])


async def require_no_cluster(control: ControlStore) -> None:
    """Returns if a server with a separate journal may use the control store.

    Raises:
        UsageError: a cluster uses it: this server would mistake its positions for its own.
    """
    if await control.get(_MARK, _CLUSTER) is not None:
        raise UsageError(
            "a cluster uses the control store: to join it, set OPENTRAIL_JOURNAL to the same "
            "database as OPENTRAIL_CONTROL_STORE"
        )


_GONE = "trails, access keys, policies, users and settings are lost"


def store_problem(
    inventory: DirectoryInventory | None, written: Written | None, state: _StoreState
) -> DirectoryProblem | None:
    """Returns the problem of a control store; None if it is unchanged."""
    former = inventory.store if inventory else None
    if state.is_empty and former is not None:
        return DirectoryProblem("store", f"{state.name} is unexpectedly empty: {_GONE}")
    if state.is_empty:
        text = f"{state.name} is empty, but the journal is not: {_GONE}"
        return DirectoryProblem("store", text) if state.has_records else None
    if former is not None and state.store != former:
        text = f"{state.name} is of another data directory: the previous content is lost"
        return DirectoryProblem("store", text)
    if written is not None and (state.marked or 0) < written.marked:
        text = (
            f"{state.name} is an older copy, of position {state.marked or 0} of the journal; it was"
            f" at position {written.marked}: later changes are lost"
        )
        return DirectoryProblem("older", text)
    behind = revisions_behind(state.revision, written.revision) if written else 0
    if behind and state.in_file:
        text = (
            f"{state.name} is damaged or an older copy, and misses its last {behind} changes: "
            "keys, policies, users and trails may be outdated"
        )
        return DirectoryProblem("older", text)
    return None


def journal_problem(
    chain_at: Callable[[int], bytes], written: Written | None
) -> DirectoryProblem | None:
    """Returns the problem of a journal; None if it has the last written record.

    Other checks detect missing records at its end.

    Args:
        chain_at: returns the journal's chain at a position.
        written: the last known write.
    """
    if written is None or not written.chain:
        return None
    own = chain_at(written.position)
    if own in (UNKNOWN_CHAIN, written.chain):
        return None
    text = f"the journal was replaced: position {written.position} has another record"
    return DirectoryProblem("journal", text)


def _key_problems(
    inventory: DirectoryInventory, folder: Path, known_names: Collection[str], in_file: bool
) -> list[str]:
    """Returns signing keys known only to the inventory, and a changed master key.

    Args:
        inventory: has the required keys.
        folder: the folder of key files.
        known_names: the signing keys in the control store.
        in_file: whether keys are in files, like the control store.
    """
    acknowledged = acknowledged_keys(folder)
    remedy = "put the file back" if in_file else "restore the control store"
    problems = [
        f"signing key {name} is missing: {remedy}"
        for name in sorted(inventory.keys)
        if name != _MASTER
        and name not in known_names
        and name not in acknowledged
        and not (folder / name).exists()
    ]
    master, current = inventory.keys.get(_MASTER), master_key_in(folder / _MASTER)
    if master is not None and current != master:
        state = "is missing" if current is None else "is another one" if current else "is damaged"
        problems.append(f"master key keys/{_MASTER} {state}: put the file back")
    return problems


@dataclass(frozen=True, slots=True)
class Standing:
    """The contents of a data directory's inventory and its file `written`."""

    problems: list[str]
    #: The problems that count until they are accepted.
    lost: list[DirectoryProblem]
    #: The last position known to be written, and the number of the last import.
    written: int
    imported: int
    inventory: DirectoryInventory | None


async def standing_of(
    data: DataDirectory,
    control: SqlControl | None,
    is_live: bool,
    journal: JournalSource | None = None,
) -> Standing:
    """Compares a data directory with its inventory, and changes nothing.

    Args:
        data: the data directory; a server may be running.
        control: its control store if in a file; else None.
        is_live: whether a server runs.
        journal: its journal if not in files.

    Raises:
        StorageFailed: the control store cannot be read.
    """
    inventory, written, problems, of_written = _read(data)
    problems += of_written
    problems += [gap.problem for _, gap in kept_gaps(data.lost) if isinstance(gap, DamagedGap)]
    problems += [data.version_problem] if data.version_problem else []
    problems_by_kind = {item.kind: item for item in inventory.problems} if inventory else {}
    fresh = None
    if control is not None:
        has_records = await asyncio.to_thread(_has_records, data, is_live, journal)
        state = await _state_of(control, has_records, in_file=True)
        fresh = store_problem(inventory, written, state)
    elif inventory is not None and inventory.state_file:
        fresh = DirectoryProblem("store", f"the control store state.db is missing: {_GONE}")
    chain_at = journal.chain_at if journal else partial(chain_of, data.journal, is_live=is_live)
    strange = await asyncio.to_thread(journal_problem, chain_at, written)
    problems_by_kind.update({item.kind: item for item in (fresh, strange) if item is not None})
    names = frozenset(await known_keys(control)) if control else frozenset()
    keys = (
        _key_problems(inventory, data.keys, names, in_file=True)
        if inventory and inventory.state_file  # else the keys are in the control store
        else []
    )
    lost = [*problems_by_kind.values(), *(DirectoryProblem("key", text) for text in keys)]
    return Standing(
        [*problems, *(item.text for item in lost)],
        lost,
        written.position if written else 0,
        inventory.imported if inventory else 0,
        inventory,
    )


def _has_records(data: DataDirectory, is_live: bool, journal: JournalSource | None) -> bool:
    if any(sealed_files(data.history, series) for series in Series):
        return True
    if journal is not None:
        first = journal.first_position()
        return first > 1 or any(journal.read_range(first, first))
    return any(holds_entries(path, is_live) for path in sorted(data.journal.glob("*.db")))


async def _state_of(control: SqlControl, has_records: bool, in_file: bool) -> _StoreState:
    return _StoreState(
        await control.is_empty(),
        await _store_id(control),
        await marked_position(control),
        await control.revision(),
        has_records,
        in_file,
    )


async def _store_id(control: ControlStore) -> str | None:
    stored = await control.get(_MARK, _STORE)
    return str(stored.document["id"]) if stored else None
