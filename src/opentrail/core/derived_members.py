"""Which members of calls that write name resources, as derived from AWS's authorization data.

`scripts/resource_data.py` makes the file, and says what is in it.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import NamedTuple

from opentrail.core.event import without_version

#: Services whose members are kept: each takes up to 300 kB, and a deployment calls few.
_CACHED_SERVICES = 64


class DerivedMembers(NamedTuple):
    """The members of one event that name resources, each with a type, or "" if it is unknown."""

    #: Of the request and the answer.
    top: Mapping[str, str]
    #: Of structures in them, and of the entries of `entry_lists`.
    inner: Mapping[str, str]
    #: Members that are lists of names.
    name_lists: frozenset[str]
    #: Members that are lists of structures, whose members are read.
    entry_lists: frozenset[str]


_NONE = DerivedMembers({}, {}, frozenset(), frozenset())


@cache
def _lines() -> Mapping[bytes, bytes]:
    packed = files("opentrail.core").joinpath("members.json.gz").read_bytes()
    lines = gzip.decompress(packed).splitlines()
    return {source: events for source, _, events in (line.partition(b"\t") for line in lines)}


@lru_cache(_CACHED_SERVICES)
def _events_of(source: str) -> Mapping[str, Mapping[str, str]]:
    events = _lines().get(source.encode(errors="replace"))
    return json.loads(events) if events else {}


def derived_members(source: str, event_name: str) -> DerivedMembers:
    """Returns the members of an event; none if it only reads, or is unknown.

    Args:
        source: of the event, without `.amazonaws.com`.
        event_name: with the version of the API or without.

    >>> derived_members("monitoring", "DeleteAlarms").top
    {'alarmNames': 'AWS::CloudWatch::Alarm'}
    """
    members = _events_of(source).get(without_version(event_name))
    if not members:
        return _NONE
    plain = {member.rstrip("[]{}"): resource_type for member, resource_type in members.items()}
    inner = {member[1:]: each for member, each in plain.items() if member[0] == "."}
    return DerivedMembers(
        {member: each for member, each in plain.items() if member[0] != "."},
        inner,
        frozenset(member.strip(".[]") for member in members if member.endswith("[]")),
        frozenset(member[:-2] for member in members if member.endswith("{}")),
    )
