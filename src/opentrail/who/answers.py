"""Who created, changed and deleted a resource, and who was behind the credentials.

An answer holds sentences with their evidence, and says so if something is not recorded.
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

#: Maximum events of one name, names of one resource, and create calls behind too many events.
_MAX_EVENTS, _MAX_NAMES, _MAX_CREATIONS = 1_000, 8, 5
_TYPED = re.compile(r"(AWS::\w+::\w+)\s+(.+)", re.DOTALL)
#: Types of resources that are the same in every Region.
_GLOBAL = ("AWS::IAM::", "AWS::S3::", "AWS::CloudFront::", "AWS::Route53::", "AWS::STS::")


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a name, optionally with a type, an account and an ARN."""

    name: str
    kind: str | None = None
    account: str | None = None
    arn: Arn | None = None
    text: str = ""

    def fits(self, resource_type: str | None) -> bool:
        """Whether the type matches: `AWS::IAM::User`, `user` and `IAM user` are the same."""
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
    """Distinguishes resources of one name; `bucket` is that of an S3 object."""

    account: str
    region: str
    bucket: str
    type: str | None


@dataclass(frozen=True, slots=True)
class ResourceHistory:
    """The recorded changes of one resource since it was last created.

    `shown_first` is the creation if it is recorded, else the last change.
    """

    created: Change | None
    changed: Sequence[Change]
    deleted: Change | None
    shown_first: Change
    last: Change


async def who(
    history: History, text: str, kind: str | None = None, account: str | None = None
) -> dict[str, Any]:
    """Returns who created, changed and deleted the resource that `text` names.

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
    histories = _histories(asked, found)
    answers = [await _answer(history, each) for each in histories]
    whole = {"sentence": None, "events": len(found), "resource": text, "answers": answers}
    if not histories:
        return {**whole, "first": [shown_event(event) for event in found[-1:]]}
    first = histories[0].shown_first
    return {**whole, **first.shown(), "record": first.event.record}


def understood(text: str, kind: str | None = None, account: str | None = None) -> Question:
    """Parses a question.

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
    """Returns the events that name the resource by any of its known names, newest first."""
    found: dict[int, FoundEvent] = {}
    waiting, seen = [asked.text], set[str]()
    if asked.kind != "AWS::S3::Object" or asked.arn is None:
        waiting.append(asked.name)  # of an object the key alone may be one of another bucket
    while waiting and len(seen) < _MAX_NAMES:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        # Other accounts than an ARN's owner may record its events; a bare name needs the account.
        account = None if name.startswith("arn:") and asked.arn else asked.account
        events = await _naming(history, name, Search(account=account))
        found.update((event.position, event) for event in events)
        waiting.extend(_other_names(events, asked, seen | {name}))
    return sorted(found.values(), key=lambda event: event.order, reverse=True)


async def _naming(history: History, name: str, search: Search) -> list[FoundEvent]:
    """Returns events of a name; if there are too many, writes come before reads."""
    found = await history.about(name, search, _MAX_EVENTS)
    if len(found) < _MAX_EVENTS:
        return found
    wrote = await history.about(name, replace(search, expression=Is("write")), _MAX_EVENTS)
    if len(wrote) == _MAX_EVENTS:
        made = Compare(("event_name",), "=", "Create*", True)
        wrote += await history.about(name, replace(search, expression=made), _MAX_CREATIONS)
    return [*wrote, *(event for event in found if event.read_only)]


def _other_names(events: Iterable[FoundEvent], asked: Question, known: set[str]) -> list[str]:
    """Returns other names of the resource: its ARN, and the id of the call that created it."""
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


# Histories of resources


def _histories(asked: Question, found: Sequence[FoundEvent]) -> list[ResourceHistory]:
    """Returns the history of each resource with the name, the most recent first."""
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
            groups.setdefault(_key_of(record, resource), []).append(Change(event, record, resource))
    histories = [each for calls in _merged(groups) if (each := _history_of(calls)) is not None]
    return sorted(histories, key=lambda each: _order(each.last), reverse=True)


def _order(change: Change) -> tuple[datetime, int]:
    return change.event.order


def _key_of(record: Record, resource: Resource) -> ResourceKey:
    """Returns the key that distinguishes resources of one name."""
    arn = parse_arn(resource.name)
    account = (arn.account if arn else "") or str(record.get("recipientAccountId") or "")
    everywhere = (resource.type or "").startswith(_GLOBAL)
    region = "" if everywhere else str(record.get("awsRegion") or "")
    bucket = ""
    if resource.type == "AWS::S3::Object":
        bucket = str(as_object(record.get("requestParameters")).get("bucketName") or "")
    return ResourceKey(account, region, bucket, resource.type)


def _merged(groups: dict[ResourceKey, list[Change]]) -> list[list[Change]]:
    """Adds calls without a resource type to the one resource that they can be about."""
    typed = [key for key in groups if key.type is not None]
    if len(typed) != 1:
        return list(groups.values())
    owner = typed[0].account
    own = [change for key, calls in groups.items() if key.account == owner for change in calls]
    others = [calls for key, calls in groups.items() if key.account != owner]
    return [sorted(own, key=_order), *others]


def _history_of(calls: Iterable[Change]) -> ResourceHistory | None:
    """Returns the history of one resource from its calls, oldest first; each counts once.

    None: no call changed it.
    """
    created: Change | None = None
    deleted: Change | None = None
    changed: list[Change] = []
    seen: set[int] = set()
    for change in calls:
        name, kind = change.event.event_name, change.resource.type
        if change.event.position in seen:
            continue
        seen.add(change.event.position)
        if creates(name, kind):
            if name in OVERWRITING and created and not deleted:
                changed.append(change)
            else:
                created, deleted, changed = change, None, []
        elif deletes(name, kind):
            deleted = change
        elif changes(name, kind):
            changed.append(change)
    known = [change for change in (created, *changed[-1:], deleted) if change]
    if not known:
        return None
    return ResourceHistory(
        created, changed, deleted, created or max(known, key=_order), max(known, key=_order)
    )


# Answers


async def _answer(history: History, found: ResourceHistory) -> dict[str, Any]:
    shown = found.shown_first
    key = _key_of(shown.record, shown.resource)
    changed = {"times": len(found.changed), **found.changed[-1].shown()} if found.changed else None
    return {
        "type": key.type,
        "name": shown.resource.name,
        "account": key.account,
        "region": key.region or None,
        "created": found.created.shown() if found.created else None,
        "changed": changed,
        "deleted": found.deleted.shown() if found.deleted else None,
        "caller": await origin_of(history, shown.record),
        "next": await next_calls(history, shown.event, shown.record),
    }
