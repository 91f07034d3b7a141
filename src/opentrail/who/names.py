"""The possible meanings of a name.

A name is a resource's name, an ARN in any form, `s3/NAME` or `BUCKET/KEY`.

"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from opentrail.core.arns import ARN_TYPES, NAMESPACES, Arn, parse_arn
from opentrail.core.attributes import Resource
from opentrail.core.event import Record, as_object, objects_in
from opentrail.core.expression import And, Compare, Expression, Text
from opentrail.ports.event_store import FoundEvent
from opentrail.who.changes import changes, creates
from opentrail.who.sentence import words_of

OBJECT = "AWS::S3::Object"
_TYPED = re.compile(r"(AWS::\w+::\w+)\s+(.+)", re.DOTALL)
_OBJECT_ARN = re.compile(r"arn:[^:]*:s3:::([^/]+)/.+", re.DOTALL)
_SECRET = re.compile(r"(arn:[^:]*:secretsmanager:.*:secret:.+)-[A-Za-z0-9]{6}\Z")
#: ARNs of parts, versions and sessions → the ARN of the resource itself.
_OF_PARTS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(arn:[^:]*:lambda:[^:]*:[^:]*:function:[^:]+):.+"), r"\1"),
    (re.compile(r"(arn:[^:]*:dynamodb:[^:]*:[^:]*:table/[^/]+)/.+"), r"\1"),
    (re.compile(r"(arn:[^:]*:sns:[^:]*:[^:]*:[^:]+):[^:]+"), r"\1"),
    (_SECRET, r"\1"),
    (re.compile(r"(arn:[^:]*):sts::(\d*):assumed-role/([^/]+)/.+"), r"\1:iam::\2:role/\3"),
)
#: An ARN without `arn:aws:`, such as `iam::123456789012:user/Mary`.
_FROM_SERVICE = re.compile(r"[a-z0-9-]+:[a-z0-9-]*:\d*:.+", re.DOTALL)
#: The end of an ARN, such as `123456789012:function:f` and `table/t`: account, all, kind.
_FROM_KIND = re.compile(r"(?:(\d{12}):)?(([\w-]+)[:/].+)", re.DOTALL)
#: Calls that add tags. Search for each one separately, since a search for one name reads little.
TAGGING_CALLS = (
    *("AddTagsToResource", "AllocateAddress", "CreateImage", "CreateInternetGateway"),
    *("CreateNatGateway", "CreateRouteTable", "CreateSecurityGroup", "CreateSnapshot"),
    *("CreateSubnet", "CreateTags", "CreateVolume", "CreateVpc", "RunInstances", "TagResource"),
)
#: Parts of a name that JSON does not escape, for a fast selection of records.
_PLAIN = re.compile(r"[A-Za-z0-9 _.:,;=@#+-]+")


@dataclass(frozen=True, slots=True)
class SearchedName:
    """A name to search for, optionally with a type, an account, an ARN and an S3 bucket."""

    name: str
    kind: str | None = None
    account: str | None = None
    arn: Arn | None = None
    text: str = ""
    bucket: str | None = None

    def matches_type(self, resource_type: str | None) -> bool:
        """Whether the type matches: `AWS::IAM::User`, `user`, `IAM user`, its service `iam`."""
        if self.kind is None or resource_type is None:
            return True
        words = {*resource_type.split("::")[1:], resource_type, words_of(resource_type)}
        kind = self.kind.lower()
        return NAMESPACES.get(kind, kind).lower() in {word.lower() for word in words}


def parse_name(text: str, kind: str | None = None, account: str | None = None) -> SearchedName:
    """Parses a user's search.

    >>> parse_name("AWS::IAM::User Mary").kind
    'AWS::IAM::User'
    >>> parse_name("arn:aws:iam::123456789012:user/Mary").name
    'Mary'
    """
    typed = _TYPED.fullmatch(text.strip())
    if typed:
        kind, text = typed.groups()
    arn = parse_arn(text)
    if arn is None:
        return SearchedName(text, kind, account, text=text)
    account = account or arn.account or None
    in_bucket = _OBJECT_ARN.fullmatch(text)
    bucket = in_bucket[1] if in_bucket else None
    return SearchedName(arn.name, kind or arn.type, account, arn, text, bucket)


def readings_of(
    text: str, kind: str | None = None, account: str | None = None
) -> Iterator[SearchedName]:
    """Yields the meanings of a search to try until event history has such a resource.

    >>> [searched.name for searched in readings_of("arn:aws:lambda:us-east-1:1:function:f:PROD")]
    ['f:PROD', 'f']
    >>> [(searched.kind, searched.name) for searched in readings_of("logs/a.csv")][1:]
    [('logs', 'a.csv'), ('AWS::S3::Object', 'a.csv')]
    """
    if _FROM_SERVICE.fullmatch(text):
        text = f"arn:aws:{text}"
    yield parse_name(text, kind, account)
    if text.startswith("arn:"):
        if (whole := _whole(text)) != text:
            yield parse_name(whole, kind, account)
        return
    word, _, name = text.partition("/")
    if kind is None and word and name:
        yield SearchedName(name, word, account)
        bucket, _, key = re.sub("^s3:?/+", "", text).partition("/")
        yield SearchedName(key, OBJECT, account, bucket=bucket)
    if end := _FROM_KIND.fullmatch(text):
        for service in (name for name, kinds in ARN_TYPES.items() if end[3] in kinds):
            arn = f"arn:aws:{service}::{end[1] or ''}:{end[2]}"
            yield parse_name(_whole(arn), kind, account)


def _whole(arn: str) -> str:
    """Returns the ARN of the whole resource for an ARN of its part, version or session."""
    for part, whole in _OF_PARTS:
        arn = part.sub(whole, arn)
    return arn


def short_name(name: str) -> str:
    """Returns the name in an ARN, which calls also use, without the suffix of a secret.

    >>> short_name("arn:aws:iam::123456789012:user/staff/Mary"), short_name("Mary")
    ('Mary', 'Mary')
    """
    arn = parse_arn(_SECRET.sub(r"\1", name))
    return arn.name if arn else name


# Name tags


#: Maximum parts of a name that are searched: each search reads all records of the call.
_MAX_SEARCHED_PARTS: Final = 4


def tagging(call: str, name: str) -> Expression:
    """Returns the expression of the calls whose records may have a name: its longest parts."""
    longest = sorted({*_PLAIN.findall(name)}, key=len, reverse=True)[:_MAX_SEARCHED_PARTS]
    parts = (Text(part, is_part=True) for part in sorted(longest))
    return And((Compare(("event_name",), "=", call, is_field=True), *parts))


def named_by_tag(event: FoundEvent, record: Record, name: str) -> list[Resource]:
    """Returns the resources to which a call adds the tag `Name` with this value.

    A call may tag only some new resources: RunInstances its instances or their volumes.
    """
    parameters = as_object(record.get("requestParameters"))
    listed = objects_in(as_object(parameters.get("tagSpecificationSet")).get("items"))
    named = [str(item.get("resourceType")) for item in listed if _has(item, name)]
    kinds = set(map(ARN_TYPES["ec2"].get, named))
    if not _has(parameters, name) or (listed and not kinds):
        return []
    made = [r for r in event.resources if creates(event.event_name, r.type)]
    tagged = made or [r for r in event.resources if changes(event.event_name, r.type)]
    return [resource for resource in tagged if not kinds or resource.type in kinds]


def _has(parameters: Mapping[str, Any], name: str) -> bool:
    """Whether the tag `Name` has this value in a list or an object of tags, at any depth."""
    left: list[Any] = [parameters]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            pair = {member.lower(): value for member, value in node.items()}
            if name in (node.get("Name"), pair.get("value") if pair.get("key") == "Name" else None):
                return True
            left += node.values()
        elif isinstance(node, list):
            left += node
    return False
