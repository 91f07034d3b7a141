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
from opentrail.history.event_history import History, Search, event_document, has_all
from opentrail.history.threads import WHO, in_thread
from opentrail.ports.event_store import FoundEvent
from opentrail.who.callers import chain_of, next_calls
from opentrail.who.changes import OVERWRITING, changes, creates, deletes
from opentrail.who.sentence import statement, words_of

#: Maximum events of one name.
_MAX_EVENTS = 1_000
#: Maximum names of one resource.
_MAX_NAMES = 8
#: Maximum create calls that are read if there are too many events.
_MAX_CREATIONS = 5
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

    def matches_type(self, resource_type: str | None) -> bool:
        """Whether the type matches: `AWS::IAM::User`, `user` and `IAM user` are the same."""
        if self.kind is None or resource_type is None:
            return True
        words = (resource_type, resource_type.rpartition("::")[2], words_of(resource_type))
        return self.kind.lower() in [word.lower() for word in words]


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


class ResourceKey(NamedTuple):
    """Distinguishes resources of one name; `bucket` is that of an S3 object."""

    account: str
    region: str
    bucket: str
    type: str | None


@dataclass(frozen=True, slots=True)
class ResourceHistory:
    """The recorded changes of one resource since it was last created.

    `main_change` is the creation if it is recorded, else the last change.
    """

    created: Change | None
    changed: Sequence[Change]
    deleted: Change | None
    main_change: Change
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
    question = parse_question(text, kind, account)
    events, is_complete = await _find_events(history, question)
    if not events and "/" in text and question.arn is None and kind is None:
        word, _, name = text.partition("/")
        shorter = replace(question, name=name, kind=word)
        events, is_complete = await _find_events(history, shorter)
        question = shorter if events else question
    histories = await in_thread(_histories, question, events, pool=WHO)
    answers = [await _answer(history, item, is_complete) for item in histories]
    answer = {"sentence": None, "events": len(events), "resource": text, "answers": answers}
    if not histories:
        return {**answer, "first": [event_document(event) for event in events[-1:]]}
    first = histories[0].main_change
    return {**answer, **first.document(), "record": first.event.record}


def parse_question(text: str, kind: str | None = None, account: str | None = None) -> Question:
    """Parses a question.

    >>> parse_question("AWS::IAM::User Mary").kind
    'AWS::IAM::User'
    >>> parse_question("arn:aws:iam::123456789012:user/Mary").name
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


async def _find_events(history: History, question: Question) -> tuple[list[FoundEvent], bool]:
    """Returns the events that name the resource by any of its known names, newest first.

    The flag says whether all writes are among them.
    """
    events_by_position: dict[int, FoundEvent] = {}
    is_complete = True
    waiting, seen = [question.text], set[str]()
    if question.kind != "AWS::S3::Object" or question.arn is None:
        waiting.append(question.name)  # of an object the key alone may be one of another bucket
    while waiting and len(seen) < _MAX_NAMES:
        name = waiting.pop(0)
        if name in seen:
            continue
        seen.add(name)
        # Other accounts than an ARN's owner may record its events; a bare name needs the account.
        account = None if name.startswith("arn:") and question.arn else question.account
        events, has_all_writes = await _find_by_name(history, name, Search(account=account))
        is_complete = is_complete and has_all_writes
        events_by_position.update((event.position, event) for event in events)
        waiting.extend(_other_names(events, question, seen | {name}))
    newest_first = sorted(events_by_position.values(), key=lambda e: e.order, reverse=True)
    return newest_first, is_complete


async def _find_by_name(
    history: History, name: str, search: Search
) -> tuple[list[FoundEvent], bool]:
    """Returns events of a name, and whether all writes are among them.

    If there are too many, writes come before reads.
    """
    latest = await history.events_of(name, search, _MAX_EVENTS)
    if has_all(latest, _MAX_EVENTS):
        return latest, True
    writes = await history.events_of(name, replace(search, expression=Is("write")), _MAX_EVENTS)
    has_all_writes = has_all(writes, _MAX_EVENTS)
    if not has_all_writes:
        creations = Compare(("event_name",), "=", "Create*", True)
        search = replace(search, expression=creations)
        writes += await history.events_of(name, search, _MAX_CREATIONS)
    return [*writes, *(event for event in latest if event.read_only)], has_all_writes


def _other_names(events: Iterable[FoundEvent], question: Question, known: set[str]) -> list[str]:
    """Returns other names of the resource: its ARN, and the id of the call that created it."""
    names: dict[str, None] = {}
    for event in events:
        same = [r for r in event.resources if r.name in known and question.matches_type(r.type)]
        for resource in event.resources:
            if resource.name in known or resource.type not in {r.type for r in same}:
                continue
            arn = parse_arn(resource.name)
            single = creates(event.event_name, resource.type) and event.event_name[-1:] != "s"
            if (arn and arn.name in known) or (single and resource.type):
                names[resource.name] = None
    return list(names)


# Histories of resources


def _histories(question: Question, events: Sequence[FoundEvent]) -> list[ResourceHistory]:
    """Returns the history of each resource with the name, the most recent first."""
    names = {question.text, question.name}
    names.update(_other_names(events, question, names))
    groups: dict[ResourceKey, list[Change]] = {}
    for event in reversed(events):
        about = [
            resource
            for resource in event.resources
            if resource.name in names
            and question.matches_type(resource.type)
            # AssumeRole counts as reading, and makes an access key; it does nothing to the role.
            and (not event.read_only or creates(event.event_name, resource.type))
        ]
        record: Record = orjson.loads(event.record) if about else {}
        if not about or refusal(record) is not None:
            continue
        for resource in about:
            groups.setdefault(_key_of(record, resource), []).append(Change(event, resource))
    histories = [history for calls in _merge(groups) if (history := _history_of(calls)) is not None]
    return sorted(histories, key=lambda history: _order(history.last), reverse=True)


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


def _merge(groups: dict[ResourceKey, list[Change]]) -> list[list[Change]]:
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
    all_changes = [change for change in (created, *changed[-1:], deleted) if change]
    if not all_changes:
        return None
    last = max(all_changes, key=_order)
    return ResourceHistory(created, changed, deleted, created or last, last)


# Answers


async def _answer(history: History, resource: ResourceHistory, is_complete: bool) -> dict[str, Any]:
    """Returns the history of a resource in sentences; if not complete, it changed more often."""
    change, changed = resource.main_change, resource.changed
    record = change.record
    key = _key_of(record, change.resource)
    return {
        "type": key.type,
        "name": change.resource.name,
        "account": key.account,
        "region": key.region or None,
        "created": resource.created.document() if resource.created else None,
        "changed": (
            {"times": len(changed), "complete": is_complete, **changed[-1].document()}
            if changed
            else None
        ),
        "deleted": resource.deleted.document() if resource.deleted else None,
        "caller": (await chain_of(history, record)).document(),
        "next": await next_calls(history, change.event, record),
    }
