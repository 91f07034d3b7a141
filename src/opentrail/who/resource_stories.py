"""Who created, changed and deleted a resource, and who was behind the credentials.

An answer holds sentences with their evidence, and names gaps in the records.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import NamedTuple, cast

import orjson

from opentrail.core.arns import parse_arn
from opentrail.core.attributes import Resource
from opentrail.core.event import MANAGEMENT, Record, as_object, refusal
from opentrail.core.expression import Compare, Expression, Is, Or
from opentrail.history.event_history import History, Search, event_document, has_all
from opentrail.history.threads import WHO, in_thread
from opentrail.ports.event_store import FoundEvent
from opentrail.who.changes import (
    IDEMPOTENT,
    RENAMES,
    changes,
    creates,
    deletes,
    overwrites,
    rename_of,
    restores,
    version_of,
)
from opentrail.who.names import (
    OBJECT,
    TAGGING_CALLS,
    SearchedName,
    named_by_tag,
    parse_name,
    readings_of,
    short_name,
    tagging,
)
from opentrail.who.original_callers import chain_of, next_calls
from opentrail.who.sentence import statement
from opentrail.who.shapes import Ends, EventDocument, ProvenSentence, ResourceLife, ResourceStories


@dataclass(frozen=True, slots=True)
class Change:
    """A call that made, changed or removed a resource."""

    event: FoundEvent
    resource: Resource

    @property
    def record(self) -> Record:
        """The event's record, parsed each time; a thousand large ones would take gigabytes."""
        record: Record = orjson.loads(self.event.record)
        return record

    def document(self) -> ProvenSentence:
        """Returns sentence and evidence."""
        return statement(self.record, self.resource)


class Step(NamedTuple):
    """A successful call that names a resource."""

    change: Change
    #: Short names of the resource in the call: the name, and the id if the call returns one.
    names: tuple[str, ...]
    #: The old and the new name, if the call renames a resource.
    rename: tuple[str, str] | None = None
    #: The number of the version that the call wrote; None if not in the answer.
    version: int | None = None


@dataclass(slots=True, eq=False)
class Life:
    """A resource's recorded history from its creation to its deletion."""

    #: All its names, in order.
    names: list[str]
    created: Change | None = None
    #: Whether the resource certainly did not exist before `created`.
    is_certain: bool = True
    #: Changes, including renames.
    changed: list[Change] = field(default_factory=list)
    renamed: list[Change] = field(default_factory=list)
    deleted: Change | None = None
    #: Its old names before renames.
    left: set[str] = field(default_factory=set)

    @property
    def name(self) -> str:
        """The current name, or the last one."""
        return self.names[-1] if self.renamed else self.main_change.resource.name

    @property
    def ends(self) -> list[Change]:
        """Its recorded creation, last change and deletion."""
        return [end for end in (self.created, *self.changed[-1:], self.deleted) if end]

    @property
    def last_change(self) -> Change:
        """The last of `ends`, which must not be empty."""
        return max(self.ends, key=lambda change: change.event.order)

    @property
    def main_change(self) -> Change:
        """The creation if recorded, otherwise the last change."""
        return self.created or self.last_change

    def has(self, name: str) -> bool:
        """Whether this is one of its current names, or of its names when it ended."""
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
        """Returns the current lives with one of these names, each with the earlier lives.

        Without a current life, returns the last one with such a name. The latest current life has
        the earlier ones; both lists are in order of creation, latest first.
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
            ended.deleted = ended.deleted or change  # a call may delete a deleted resource again
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
        """Begins a life, unless the call changes or returns an existing resource."""
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
        """Returns the last life of some names; prefers a name that only one life had."""

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


#: Maximum events of one name.
_MAX_EVENTS = 1_000
#: Maximum names of one resource.
_MAX_NAMES = 8
#: Maximum create and delete calls to read if there are too many events.
_MAX_CREATIONS = 5
#: Maximum calls that may be renames.
_MAX_RENAMES = 1_000
#: Maximum calls of one name that give a Name tag, and resources with the tag.
_MAX_TAGGING, _MAX_TAGGED = 100, 5
#: Maximum former lives in an answer.
_MAX_FORMER = 20
#: Types of resources that are the same in every Region.
_GLOBAL = ("AWS::IAM::", "AWS::S3::", "AWS::CloudFront::", "AWS::Route53::", "AWS::STS::")
#: Type of resources whose names are unique only in their holder → members that name the holder.
_HOLDERS = {
    OBJECT: ("bucketName",),
    "AWS::ECS::Service": ("cluster",),
    "AWS::Events::Rule": ("eventBusName",),
    "AWS::IAM::Policy": ("roleName", "userName", "groupName"),
    "AWS::Logs::LogStream": ("logGroupName",),
}
#: Suffix of the name of a resource version, such as the task definition `web:2`.
_VERSION = re.compile(r":\d+\Z")
#: Accounts and events of renames, by the new name.
Renames = Mapping[str, Sequence[tuple[str, FoundEvent]]]


class ResourceKey(NamedTuple):
    """Distinguishes resources of one name; `holder` is, for example, the bucket of an S3 object."""

    account: str
    region: str
    holder: str
    type: str | None


class _Resource(NamedTuple):
    """A resource with earlier resources of its name."""

    key: ResourceKey
    life: Life
    former: list[Life]


class _Found(NamedTuple):
    """The resources of a name in event history."""

    events: list[FoundEvent]
    #: Whether all writes are among the events.
    is_complete: bool
    #: The most recent first.
    resources: list[_Resource]


async def who(
    history: History, text: str, kind: str | None = None, account: str | None = None
) -> ResourceStories:
    """Returns who created, changed and deleted the resource that `text` names.

    Args:
        history: finds the events.
        text: a name, an ARN, `AWS::IAM::User Mary`, `user/Mary` and more; see `names.py`.
        kind: narrows to a type, `AWS::IAM::User` or `user`, or to a service, `iam`.
        account: narrows to an account.
    """
    found = _Found([], True, [])
    renames = await _renames(history)
    for searched in readings_of(text, kind, account):
        read = await _find(history, searched, renames)
        found = read if read.resources or not found.events else found
        if found.resources:
            break
    else:
        found = await _find_by_tag(history, parse_name(text, kind, account), renames) or found
    events, is_complete, resources = found
    answers = [await _answer(history, each, is_complete) for each in resources]
    answer: ResourceStories = {
        "sentence": None,
        "events": len(events),
        "resource": text,
        "answers": answers,
    }
    if not resources:
        documents = [event_document(event) for event in events[-1:]]
        return {**answer, "first": cast(list[EventDocument], documents)}
    first = resources[0].life.main_change
    return {**answer, **first.document(), "record": first.event.record}


async def _find(history: History, searched: SearchedName, renames: Renames) -> _Found:
    events, is_complete = await _find_events(history, searched, renames)
    return _Found(events, is_complete, await in_thread(_resources, searched, events, pool=WHO))


async def _find_by_tag(history: History, searched: SearchedName, renames: Renames) -> _Found | None:
    """Returns the resources with a Name tag in event history; None without one."""
    if searched.arn:
        return None
    search = Search(searched.account, categories=(MANAGEMENT,))
    events = [
        event
        for call in TAGGING_CALLS
        for event in await history.latest(
            replace(search, expression=tagging(call, searched.name)), _MAX_TAGGING
        )
    ]
    tagged: dict[SearchedName, None] = {}
    for event in sorted(events, key=lambda event: event.order, reverse=True):
        record: Record = orjson.loads(event.record)
        for resource in named_by_tag(event, record, searched.name):
            if refusal(record) is None and searched.matches_type(resource.type):
                owner = str(record.get("recipientAccountId") or "") or searched.account
                tagged[parse_name(resource.name, resource.type, owner)] = None
    found = [await _find(history, each, renames) for each in [*tagged][:_MAX_TAGGED]]
    if not found:
        return None
    by_position = {event.position: event for each in found for event in each.events}
    resources = [resource for each in found for resource in each.resources]
    return _Found([*by_position.values()], all(each.is_complete for each in found), resources)


# Which events


async def _renames(history: History) -> Renames:
    """Returns the calls that renamed a resource, with their accounts, by the new name."""
    search = Search(categories=(MANAGEMENT,), expression=_any_of(RENAMES))
    renames: dict[str, list[tuple[str, FoundEvent]]] = {}
    for event in await history.latest(search, _MAX_RENAMES):
        record: Record = orjson.loads(event.record)
        if rename := rename_of(record):
            owner = str(record.get("recipientAccountId") or "")
            renames.setdefault(rename[1], []).append((owner, event))
    return renames


async def _find_events(
    history: History, searched: SearchedName, renames: Renames
) -> tuple[list[FoundEvent], bool]:
    """Returns the events that name the resource by any of its known names, newest first.

    The flag is true if they include all writes.
    """
    events_by_position: dict[int, FoundEvent] = {}
    is_complete = True
    waiting, seen = [name for name in (searched.text, searched.name) if name], set[str]()
    while waiting and len(seen) < _MAX_NAMES:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        # Other accounts than an ARN's owner may record its events; a bare name needs the account.
        account = None if name.startswith("arn:") and searched.arn else searched.account
        events, has_all_writes = await _find_by_name(history, name, Search(account=account))
        events += [e for owner, e in renames.get(name, ()) if account in (None, owner)]
        is_complete = is_complete and has_all_writes
        events_by_position.update((event.position, event) for event in events)
        waiting.extend(_other_names(events, searched, seen | {name}))
    newest_first = sorted(events_by_position.values(), key=lambda e: e.order, reverse=True)
    return newest_first, is_complete and seen.issuperset(waiting)


async def _find_by_name(
    history: History, name: str, search: Search
) -> tuple[list[FoundEvent], bool]:
    """Returns events of a name, and whether they include all writes.

    If there are too many, it prefers writes to reads, and includes the earliest events.
    """
    latest = await history.events_of(name, search, _MAX_EVENTS)
    if has_all(latest, _MAX_EVENTS):
        return latest, True
    writes = await history.events_of(name, replace(search, expression=Is("write")), _MAX_EVENTS)
    has_all_writes = has_all(writes, _MAX_EVENTS)
    if not has_all_writes:
        for calls in (("Create*",), ("Delete*", "Terminate*", "Deregister*")):
            some = replace(search, expression=_any_of(calls))
            writes += await history.events_of(name, some, _MAX_CREATIONS)
    succeeded = replace(search, attribute=("ResourceName", name), expression=Is("success"))
    earliest = await history.earliest(succeeded)
    reads = (event for event in latest if event.read_only)
    return [*writes, *reads, *earliest], has_all_writes


def _any_of(calls: Iterable[str]) -> Expression:
    return Or(tuple(Compare(("event_name",), "=", call, is_field=True) for call in calls))


def _other_names(
    events: Iterable[FoundEvent], searched: SearchedName, known: set[str]
) -> list[str]:
    """Returns other names: the ARN, the id of the call that created it, names before renames."""
    names: dict[str, None] = {}
    for event in events:
        if event.event_name in RENAMES:
            rename = rename_of(orjson.loads(event.record)) or ()
            names.update(dict.fromkeys(rename if known.intersection(rename) else ()))
        same = [r for r in event.resources if r.name in known and searched.matches_type(r.type)]
        for resource in event.resources:
            if resource.name in known or resource.type not in {r.type for r in same}:
                continue
            short = short_name(resource.name)
            single = creates(event.event_name, resource.type) and event.event_name[-1:] != "s"
            if (short != resource.name and short in known) or (single and resource.type):
                names[resource.name] = None
    return [name for name in names if name not in known]


# Lives of resources


def _resources(searched: SearchedName, events: Sequence[FoundEvent]) -> list[_Resource]:
    """Returns the resources with the name, the most recent first."""
    names = {searched.text, searched.name}
    while others := _other_names(events, searched, names):
        names.update(others)
    # Calls that only read matter if a later call may have created the resource.
    puts = [e for e in events if overwrites(e.event_name) or e.event_name in IDEMPOTENT]
    groups: dict[ResourceKey, list[Step]] = {}
    for event in reversed(_without_copies(events)):
        about = [r for r in event.resources if r.name in names and searched.matches_type(r.type)]
        # AssumeRole is read-only, but creates an access key.
        makes = any(creates(event.event_name, resource.type) for resource in about)
        matters = makes or not event.read_only or (puts and event.order < puts[0].order)
        if not about or not matters:
            continue
        record: Record = orjson.loads(event.record)
        if refusal(record) is None:
            for key, step in _steps(event, about, record):
                groups.setdefault(key, []).append(step)
    asked = {searched.name, short_name(searched.name), short_name(searched.text)}
    resources = [
        _Resource(key, life, former)
        for key, steps in _merge(groups)
        if searched.bucket in (None, key.holder)
        for life, former in Lives(steps).of(asked)
    ]

    def rank(resource: _Resource) -> tuple[bool, datetime, int]:
        # A resource with the name comes before a resource that lost it by a rename.
        life = resource.life
        return any(map(life.has, asked)), *life.last_change.event.order

    return sorted(resources, key=rank, reverse=True)


def _without_copies(events: Iterable[FoundEvent]) -> list[FoundEvent]:
    """Returns events without the copies for other accounts, which have less about the caller."""
    shared: dict[int, Record] = {
        event.position: orjson.loads(event.record)
        for event in events
        if '"sharedEventID"' in event.record
    }
    copies = {
        position: record.get("sharedEventID")
        for position, record in shared.items()
        if as_object(record.get("userIdentity")).get("type") == "AWSAccount"
    }
    whole = {r.get("sharedEventID") for position, r in shared.items() if position not in copies}
    return [event for event in events if copies.get(event.position) not in whole]


def _steps(
    event: FoundEvent, about: Iterable[Resource], record: Record
) -> list[tuple[ResourceKey, Step]]:
    """Returns the steps that a call adds to the lives of the resources that it names."""
    parameters = as_object(record.get("requestParameters"))
    # CreateDBInstanceReadReplica names the instance that it makes, and the source of the copy.
    sources = [value for name, value in parameters.items() if name.lower().startswith("source")]
    # A role of another account has its sessions there, whatever the account of the event.
    owners = {resource.type: arn.account for resource in about if (arn := parse_arn(resource.name))}
    types = {short_name(resource.name): resource.type for resource in about if resource.type}
    by_key: dict[ResourceKey, list[Resource]] = {}
    for named in about:
        # A call may name one resource twice: with its type, and by its ARN without a type.
        resource = Resource(named.type or types.get(short_name(named.name)), named.name)
        if resource.name not in sources or not creates(event.event_name, resource.type):
            key = _key_of(record, resource)
            key = key._replace(account=owners.get(resource.type) or key.account)
            by_key.setdefault(key, []).append(resource)
    return [
        (
            key,
            Step(
                Change(event, resources[0]),
                tuple(dict.fromkeys(short_name(resource.name) for resource in resources)),
                rename_of(record),
                version_of(record),
            ),
        )
        for key, resources in by_key.items()
    ]


def _key_of(record: Record, resource: Resource) -> ResourceKey:
    """Returns the key that distinguishes resources of one name."""
    arn = parse_arn(resource.name)
    account = (arn.account if arn else "") or str(record.get("recipientAccountId") or "")
    everywhere = (resource.type or "").startswith(_GLOBAL)
    region = "" if everywhere else str(record.get("awsRegion") or "")
    holder = ""
    if arn is None or resource.type != "AWS::IAM::Policy":  # a policy with an ARN is in none
        parameters = as_object(record.get("requestParameters"))
        members = _HOLDERS.get(resource.type or "", ())
        holder = next((str(parameters[each]) for each in members if parameters.get(each)), "")
    if not holder and (version := _VERSION.search(resource.name)):
        holder = version[0]
    return ResourceKey(account, region, short_name(holder), resource.type)


def _merge(groups: dict[ResourceKey, list[Step]]) -> list[tuple[ResourceKey, list[Step]]]:
    """Adds calls without a resource type to the only resource that they can change."""
    typed = [key for key in groups if key.type is not None]
    if len(typed) != 1:
        return [*groups.items()]
    (resource,) = typed
    own = [s for key, steps in groups.items() if key.account == resource.account for s in steps]
    own.sort(key=lambda step: step.change.event.order)
    others = [(key, steps) for key, steps in groups.items() if key.account != resource.account]
    return [(resource, own), *others]


# Answers


async def _answer(history: History, resource: _Resource, is_complete: bool) -> ResourceLife:
    """Returns the life of a resource in sentences; if not complete, it changed more often."""
    key, life, former = resource
    change, changed = life.main_change, life.changed
    record = change.record
    return {
        "type": key.type,
        "name": life.name,
        "account": key.account,
        "region": key.region or None,
        **_ends(life),
        "changed": (
            {"times": len(changed), "complete": is_complete, **changed[-1].document()}
            if changed
            else None
        ),
        "caller": (await chain_of(history, record)).document(),
        "next": await next_calls(history, change.event, record),
        "former": [{"name": each.name, **_ends(each)} for each in former[:_MAX_FORMER]],
    }


def _ends(life: Life) -> Ends:
    """Returns the creation and deletion of a life, and its names."""
    created, deleted = life.created, life.deleted
    return {
        "created": {"certain": life.is_certain, **created.document()} if created else None,
        "renamed": [change.document() for change in life.renamed],
        "deleted": deleted.document() if deleted else None,
    }
