"""What of an event goes into `facts`, and what into `untrusted`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from opentrail.core.facts import (
    FACT,
    AccountId,
    EventId,
    IpAddress,
    KeyId,
    Region,
    Time,
    Word,
)
from opentrail.mcp.answer import Json, cleaned

Row = TypeVar("Row")
#: Returns whether a value is a fact: it has a form in which nothing can be said.
IsFact = Callable[[Any], bool]
#: Maximum names of resources in a row.
_MAX_RESOURCES = 3


def has_form(pattern: str) -> IsFact:
    """Returns what says whether a value is a string of this form, a regular expression."""
    form = re.compile(pattern)
    return lambda value: isinstance(value, str) and form.fullmatch(value) is not None


def _is(fact: Any) -> IsFact:
    """Returns what says whether a value has the form of a type in `core.facts`."""
    return has_form(fact.__metadata__[0].extra[FACT])


is_account = _is(AccountId)
is_address = _is(IpAddress)
is_event_id = _is(EventId)
is_name = _is(Word)
is_time = _is(Time)
_is_access_key = _is(KeyId)
_is_region = _is(Region)


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


#: Name in an answer → member of a row of the JSON API, and whether a value is a fact.
_MEMBERS: Mapping[str, tuple[str, IsFact]] = {
    "event_id": ("eventId", is_event_id),
    "time": ("eventTime", is_time),
    "event_source": ("eventSource", is_name),
    "event_name": ("eventName", is_name),
    "error_code": ("errorCode", is_name),
    "account": ("account", is_account),
    "region": ("region", _is_region),
    "source_ip": ("sourceIp", is_address),
}
#: Further ones of an event that is shown alone.
_MORE: Mapping[str, tuple[str, IsFact]] = {
    "category": ("category", is_name),
    "read_only": ("readOnly", _is_flag),
    "principal_type": ("principalType", is_name),
    "access_key_id": ("accessKeyId", _is_access_key),
    "mfa": ("mfa", _is_flag),
}


def split(row: Mapping[str, Any], members: Mapping[str, tuple[str, IsFact]]) -> tuple[Json, Json]:
    """Returns the facts of a row, and the values that have not the form of a fact."""
    facts: Json = {}
    untrusted: Json = {}
    for name, (member, is_fact) in members.items():
        value = row.get(member)
        if value is not None:
            (facts if is_fact(value) else untrusted)[name] = value
    return facts, cleaned(untrusted)


def split_row(row: Mapping[str, Any]) -> tuple[Json, Json]:
    """Returns both parts of an event in a list; `row` is one of the JSON API."""
    facts, untrusted = split(row, _MEMBERS)
    names = [resource["name"] for resource in row["resources"]]
    more = {"what": row["clause"], "principal": row["arn"], "resources": names[:_MAX_RESOURCES]}
    untrusted |= cleaned({name: value for name, value in more.items() if value})
    if len(names) > _MAX_RESOURCES:
        facts["resources"] = len(names)
    return facts, untrusted


def split_event(row: Mapping[str, Any]) -> tuple[Json, Json]:
    """Returns both parts of an event that is shown alone."""
    facts, untrusted = split_row(row)
    more_facts, more_untrusted = split(row, _MORE)
    agent = {"user_agent": row["userAgent"]} if row["userAgent"] else {}
    return facts | more_facts, untrusted | more_untrusted | cleaned(agent)


def numbered(
    rows: Iterable[Row], parts_of: Callable[[Row], tuple[Json, Json]]
) -> tuple[list[Json], list[Json]]:
    """Returns the facts of rows, and their untrusted values, with the numbers that join them."""
    parts = [(n, *parts_of(row)) for n, row in enumerate(rows, 1)]
    facts = [{"n": n, **facts} for n, facts, _ in parts]
    return facts, [{"n": n, **untrusted} for n, _, untrusted in parts]
