"""The lives of a resource's name: each from a creation to a deletion, under one name or several."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import orjson

from opentrail.core.attributes import Resource
from opentrail.core.event import Record
from opentrail.ports.event_store import FoundEvent
from opentrail.who.changes import (
    IDEMPOTENT,
    changes,
    creates,
    deletes,
    overwrites,
    restores,
)
from opentrail.who.sentence import statement


@dataclass(frozen=True, slots=True)
class Change:
    """A call that made, changed or removed a resource."""

    event: FoundEvent
    resource: Resource

    @property
    def record(self) -> Record:
        """The event's record, parsed each time: a thousand large ones would take gigabytes."""
        record: Record = orjson.loads(self.event.record)
        return record

    def document(self) -> dict[str, Any]:
        """Returns sentence and evidence."""
        return statement(self.record, self.resource)


class Step(NamedTuple):
    """A successful call that names a resource."""

    change: Change
    #: Short names of the resource in the call: the name, and the id if the call returns one.
    names: tuple[str, ...]
    #: The former and the new name, if the call renames a resource.
    rename: tuple[str, str] | None = None
    #: The number of the version that the call wrote; None: the answer has none.
    version: int | None = None


@dataclass(slots=True, eq=False)
class Life:
    """What is recorded of a resource from its creation to its deletion."""

    #: Every name that it had, the last one last.
    names: list[str]
    created: Change | None = None
    #: Whether the resource certainly did not exist before `created`.
    is_certain: bool = True
    #: Renames are among them.
    changed: list[Change] = field(default_factory=list)
    renamed: list[Change] = field(default_factory=list)
    deleted: Change | None = None
    #: The names that renames took from it.
    left: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The present name, or the last one."""
        return self.names[-1] if self.renamed else self.main_change.resource.name

    @property
    def ends(self) -> list[Change]:
        """Its creation, last change and deletion, as far as they are recorded."""
        return [end for end in (self.created, *self.changed[-1:], self.deleted) if end]

    @property
    def last_change(self) -> Change:
        """The last of `ends`, of which there must be one."""
        return max(self.ends, key=lambda change: change.event.order)

    @property
    def main_change(self) -> Change:
        """The creation if it is recorded, else the last change."""
        return self.created or self.last_change

    def has(self, name: str) -> bool:
        """Whether this is one of its present names, or of those that it had when it ended."""
        return name in self.names and name not in self.left


class Lives:
    """The lives of the resources of one type and place.

    Args:
        steps: oldest first.
    """

    def __init__(self, steps: Iterable[Step]) -> None:
        self._all: list[Life] = []
        #: Name → the last life that has it.
        self._holders: dict[str, Life] = {}
        seen: set[int] = set()
        for step in steps:
            if step.change.event.position not in seen:
                seen.add(step.change.event.position)
                self._add(step)

    def of(self, names: set[str]) -> list[tuple[Life, list[Life]]]:
        """Returns the present lives that have one of these names, each with the former ones.

        If none has it, the last life that had it. Former lives are with the latest present one;
        both are in the order of their beginnings, latest first.
        """
        had = [
            life for life in reversed(self._all) if life.ends and not names.isdisjoint(life.names)
        ]
        present = [life for life in had if self._is_present(life, names)] or had[:1]
        former = [
            life
            for life in had
            if life not in present and (life.created or life.deleted or life.renamed)
        ]
        return [(life, [] if index else former) for index, life in enumerate(present)]

    def _is_present(self, life: Life, names: set[str]) -> bool:
        held = any(self._holders.get(name) is life for name in life.names)
        return life.deleted is None and held and any(map(life.has, names))

    def _add(self, step: Step) -> None:
        change = step.change
        event_name, kind = change.event.event_name, change.resource.type
        life = self._life_of(step.rename[:1] if step.rename else step.names)
        if creates(event_name, kind):
            self._create(step, life, event_name)
        elif deletes(event_name, kind):
            ended = self._or_unknown(life, step)
            ended.deleted = ended.deleted or change  # what is gone may be deleted again
        elif step.rename and step.rename[0] in step.names:
            self._rename(self._or_unknown(life, step), step.rename, change)
        elif life and life.deleted and restores(event_name, kind):
            life.deleted = None
            life.changed.append(change)
        elif changes(event_name, kind) and not change.event.read_only:
            self._or_unknown(life, step).changed.append(change)
        else:
            self._or_unknown(life, step)

    def _create(self, step: Step, life: Life | None, event_name: str) -> None:
        """Begins a life, unless the call changes or returns what was there before."""
        is_sure = not overwrites(event_name) and event_name not in IDEMPOTENT
        if step.version is not None and overwrites(event_name):
            # Each revision of a task definition has its own name, `web:2`.
            names_version = any(name.endswith(f":{step.version}") for name in step.names)
            is_sure = step.version == 1 or names_version
            existed = not is_sure
        else:
            existed = not is_sure and life is not None and life.deleted is None
        if not existed:
            self._begin(step, is_sure or life is not None).created = step.change
        elif event_name not in IDEMPOTENT:
            self._or_unknown(life, step).changed.append(step.change)

    def _rename(self, life: Life, rename: tuple[str, str], change: Change) -> None:
        former, new = rename
        life.left.add(former)
        life.left.discard(new)
        life.names = [name for name in life.names if name != new] + [new]
        if self._holders.get(former) is life:
            del self._holders[former]
        self._holders[new] = life
        life.changed.append(change)
        life.renamed.append(change)

    def _life_of(self, names: Iterable[str]) -> Life | None:
        """Returns the last life of some names; a name that only one life had comes first."""

        def lives_with(name: str) -> int:
            return sum(name in life.names for life in self._all)

        held = [name for name in names if name in self._holders]
        return self._holders[min(held, key=lives_with)] if held else None

    def _or_unknown(self, life: Life | None, step: Step) -> Life:
        """Returns a life, or begins one whose creation is not recorded."""
        return self._begin(step) if life is None else life

    def _begin(self, step: Step, is_certain: bool = True) -> Life:
        life = Life(list(step.names), is_certain=is_certain)
        self._all.append(life)
        self._holders.update(dict.fromkeys(step.names, life))
        return life
