"""Who created, changed and deleted a resource, and who was behind the credentials.

An answer holds sentences with their evidence; what no record tells, it says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, NamedTuple

import orjson

from opentrail.core.arns import Arn, parse_arn
from opentrail.core.attributes import Resource
from opentrail.core.event import Record, as_object, refusal
from opentrail.core.expression import Compare, Is
from opentrail.history.event_history import History, Search, shown_event
from opentrail.ports.event_store import FoundEvent
from opentrail.who.callers import next_calls, origin_of
from opentrail.who.changes import OVERWRITING, changes, creates, deletes
from opentrail.who.sentence import spoken, statement

#: Events of one name, other names of a resource, calls that made it behind many others.
_MOST_EVENTS, _MOST_NAMES, _MOST_CREATIONS = 1_000, 8, 5
_TYPED = re.compile(r"(AWS::\w+::\w+)\s+(.+)", re.DOTALL)
#: Types whose names are the same thing in every Region.
_GLOBAL = ("AWS::IAM::", "AWS::S3::", "AWS::CloudFront::", "AWS::Route53::", "AWS::STS::")


@dataclass(frozen=True, slots=True)
class Question:
    """What a question is about: a name, perhaps a type, an account and an ARN."""

    name: str
    kind: str | None = None
    account: str | None = None
    arn: Arn | None = None
    text: str = ""

    def fits(self, resource_type: str | None) -> bool:
        """Whether the type is asked for: `AWS::IAM::User`, `user` and `IAM user` are the same."""
        if self.kind is None or resource_type is None:
            return True
        words = (resource_type, resource_type.rpartition("::")[2], spoken(resource_type))
        return self.kind.lower() in [word.lower() for word in words]


@dataclass(frozen=True, slots=True)
class Change:
    """A call that made, changed or removed a resource."""

    event: FoundEvent
    record: Record
    resource: Resource

    def shown(self) -> dict[str, Any]:
        """Returns sentence and evidence."""
        return statement(self.record, self.resource)


class ResourceKey(NamedTuple):
    """What distinguishes resources of one name; an object is one of its bucket."""

    account: str
    region: str
    bucket: str
    type: str | None


@dataclass(frozen=True, slots=True)
class ResourceHistory:
    """What is recorded of one resource, since it was last made.

    `told` is what an answer tells first: the making, else the last call that is recorded.
    """

    created: Change | None
    changed: Sequence[Change]
    deleted: Change | None
    told: Change
    last: Change


async def who(
    history: History, text: str, kind: str | None = None, account: str | None = None
) -> dict[str, Any]:
    """Returns who created, changed and deleted what `text` names, as documented JSON.

    Args:
        history: where events are looked up.
        text: a name, an ARN, `AWS::IAM::User Mary` or `user/Mary`.
        kind: narrows to a type, `AWS::IAM::User` or `user`.
        account: narrows to an account.
    """
    asked = understood(text, kind, account)
    found = await _about(history, asked)
    if not found and "/" in text and asked.arn is None and kind is None:
        word, _, name = text.partition("/")
        shorter = replace(asked, name=name, kind=word)
        found = await _about(history, shorter)
        asked = shorter if found else asked
    lives = _lives(asked, found)
    answers = [await _answer(history, life) for life in lives]
    whole = {"sentence": None, "events": len(found), "resource": text, "answers": answers}
    if not lives:
        return {**whole, "first": [shown_event(event) for event in found[-1:]]}
    told = lives[0].told
    return {**whole, **told.shown(), "record": told.event.record}


def understood(text: str, kind: str | None = None, account: str | None = None) -> Question:
    """Returns what a question is about.

    >>> understood("AWS::IAM::User Mary").kind
    'AWS::IAM::User'
    >>> understood("arn:aws:iam::123456789012:user/Mary").name
    'Mary'
    """
    typed = _TYPED.fullmatch(text.strip())
    if typed:
        kind, text = typed.groups()
    arn = parse_arn(text)
    if arn is None:
        return Question(text, kind, account, text=text)
    return Question(arn.name, kind or arn.type, account or arn.account or None, arn, text)


# Which events


async def _about(history: History, asked: Question) -> list[FoundEvent]:
    """Returns the events that name the resource, by any name that they tell of it; newest first."""
    found: dict[int, FoundEvent] = {}
    waiting, seen = [asked.text], set[str]()
    if asked.kind != "AWS::S3::Object" or asked.arn is None:
        waiting.append(asked.name)  # of an object the key alone may be one of another bucket
    while waiting and len(seen) < _MOST_NAMES:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        # The owner of an ARN may not be whose history tells of it; a bare name needs the account.
        account = None if name.startswith("arn:") and asked.arn else asked.account
        events = await _naming(history, name, Search(account=account))
        found.update((event.position, event) for event in events)
        waiting.extend(_other_names(events, asked, seen | {name}))
    return sorted(found.values(), key=lambda event: event.order, reverse=True)


async def _naming(history: History, name: str, search: Search) -> list[FoundEvent]:
    """Returns events of a name; of very many, all that wrote come before those that only read."""
    found = await history.about(name, search, _MOST_EVENTS)
    if len(found) < _MOST_EVENTS:
        return found
    wrote = await history.about(name, replace(search, expression=Is("write")), _MOST_EVENTS)
    if len(wrote) == _MOST_EVENTS:
        made = Compare(("event_name",), "=", "Create*", True)
        wrote += await history.about(name, replace(search, expression=made), _MOST_CREATIONS)
    return [*wrote, *(event for event in found if event.read_only)]


def _other_names(events: Iterable[FoundEvent], asked: Question, known: set[str]) -> list[str]:
    """Returns other names of the resource: its ARN, the id that its making gave it."""
    others: dict[str, None] = {}
    for event in events:
        same = [r for r in event.resources if r.name in known and asked.fits(r.type)]
        for resource in event.resources:
            if resource.name in known or resource.type not in {r.type for r in same}:
                continue
            arn = parse_arn(resource.name)
            single = creates(event.event_name, resource.type) and event.event_name[-1:] != "s"
            if (arn and arn.name in known) or (single and resource.type):
                others[resource.name] = None
    return list(others)


# What they tell


def _lives(asked: Question, found: Sequence[FoundEvent]) -> list[ResourceHistory]:
    """Returns what is recorded of each resource of the name, most recent first."""
    names = {asked.text, asked.name}
    names.update(_other_names(found, asked, names))
    groups: dict[ResourceKey, list[Change]] = {}
    for event in reversed(found):
        about = [
            resource
            for resource in event.resources
            if resource.name in names
            and asked.fits(resource.type)
            # AssumeRole counts as reading, and makes an access key; it does nothing to the role.
            and (not event.read_only or creates(event.event_name, resource.type))
        ]
        record: Record = orjson.loads(event.record) if about else {}
        if not about or refusal(record) is not None:
            continue
        for resource in about:
            groups.setdefault(_thing(record, resource), []).append(Change(event, record, resource))
    lives = [life for deeds in _merged(groups) if (life := _life(deeds)) is not None]
    return sorted(lives, key=lambda life: _when(life.last), reverse=True)


def _when(deed: Change) -> tuple[datetime, int]:
    return deed.event.order


def _thing(record: Record, resource: Resource) -> ResourceKey:
    """Returns what distinguishes resources of one name."""
    arn = parse_arn(resource.name)
    account = (arn.account if arn else "") or str(record.get("recipientAccountId") or "")
    everywhere = (resource.type or "").startswith(_GLOBAL)
    region = "" if everywhere else str(record.get("awsRegion") or "")
    bucket = ""
    if resource.type == "AWS::S3::Object":
        bucket = str(as_object(record.get("requestParameters")).get("bucketName") or "")
    return ResourceKey(account, region, bucket, resource.type)


def _merged(groups: dict[ResourceKey, list[Change]]) -> list[list[Change]]:
    """Adds calls that do not tell the type to the one resource that they can be about."""
    typed = [thing for thing in groups if thing.type is not None]
    if len(typed) != 1:
        return list(groups.values())
    owner = typed[0].account
    mine = [deed for thing, deeds in groups.items() if thing.account == owner for deed in deeds]
    others = [deeds for thing, deeds in groups.items() if thing.account != owner]
    return [sorted(mine, key=_when), *others]


def _life(deeds: Iterable[Change]) -> ResourceHistory | None:
    """Returns what calls, oldest first, did to one resource; a call counts once.

    None: they only named it.
    """
    created: Change | None = None
    deleted: Change | None = None
    changed: list[Change] = []
    seen: set[int] = set()
    for deed in deeds:
        name, kind = deed.event.event_name, deed.resource.type
        if deed.event.position in seen:
            continue
        seen.add(deed.event.position)
        if creates(name, kind):
            if name in OVERWRITING and created and not deleted:
                changed.append(deed)
            else:
                created, deleted, changed = deed, None, []
        elif deletes(name, kind):
            deleted = deed
        elif changes(name, kind):
            changed.append(deed)
    known = [deed for deed in (created, *changed[-1:], deleted) if deed]
    if not known:
        return None
    return ResourceHistory(
        created, changed, deleted, created or max(known, key=_when), max(known, key=_when)
    )


# Answers


async def _answer(history: History, life: ResourceHistory) -> dict[str, Any]:
    told = life.told
    thing = _thing(told.record, told.resource)
    changed = {"times": len(life.changed), **life.changed[-1].shown()} if life.changed else None
    return {
        "type": thing.type,
        "name": told.resource.name,
        "account": thing.account,
        "region": thing.region or None,
        "created": life.created.shown() if life.created else None,
        "changed": changed,
        "deleted": life.deleted.shown() if life.deleted else None,
        "caller": await origin_of(history, told.record),
        "next": await next_calls(history, told.event, told.record),
    }
