"""The parts of a search expression: names to compare, and whether an event matches.

`opens` knows all forms in which EC2 and Lightsail record the ports that a call opens: EC2 records
`ipPermissions.items`, in its older form the members of one rule themselves, and of
ModifySecurityGroupRules members in capitals. The source of traffic may be an IPv4 or IPv6 network,
a prefix list or a security group; it does not matter here.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final

import msgspec

from opentrail.core.attributes import Attributes
from opentrail.core.errors import UsageError
from opentrail.core.event import SIGN_IN, Record, parse_time, refusal
from opentrail.core.text import with_anything_between

#: Field of `Attributes` → its names, in any case: the record's or LookupEvents', then short ones.
NAMES: Mapping[str, tuple[str, ...]] = {
    "event_id": ("eventID", "id"),
    "event_name": ("eventName", "event", "name"),
    "event_source": ("eventSource", "source", "service"),
    "username": ("username", "user"),
    "access_key_id": ("accessKeyId", "key"),
    "principal_arn": ("arn", "principal"),
    "source_ip": ("sourceIPAddress", "sourceIp", "ip"),
    "error_code": ("errorCode", "error"),
    "region": ("awsRegion", "region"),
    "account": ("recipientAccountId", "account"),
    "category": ("eventCategory", "category"),
    "read_only": ("readOnly",),
    "agent": ("agent",),
    "resource_names": ("resourceName", "resource"),
    "resource_types": ("resourceType",),
    "event_time": ("eventTime", "time"),
}
#: Name in lower case → field of `Attributes`.
FIELDS: Mapping[str, str] = {
    name.lower(): field for field, names in NAMES.items() for name in names
}
#: Members of a record that a path may begin with.
MEMBERS = frozenset(
    {
        "addendum",
        "additionalEventData",
        "annotation",
        "apiVersion",
        "detectionDetails",
        "edgeDeviceDetails",
        "errorMessage",
        "eventContext",
        "eventType",
        "eventVersion",
        "insightDetails",
        "managementEvent",
        "requestID",
        "requestParameters",
        "resources",
        "responseElements",
        "serviceEventDetails",
        "sessionCredentialFromConsole",
        "sharedEventID",
        "tlsDetails",
        "userAgent",
        "userIdentity",
        "vpcEndpointAccountId",
        "vpcEndpointId",
    }
)


#: Calls that open ports.
OPENING = frozenset(
    {
        "AuthorizeSecurityGroupIngress",
        "ModifySecurityGroupRules",
        "OpenInstancePublicPorts",
        "PutInstancePublicPorts",
    }
)
_ANY_PROTOCOL = frozenset({"-1", "all"})
#: Protocols whose rules have types instead of ports, by name and number.
_WITHOUT_PORTS = frozenset({"icmp", "icmpv6", "1", "58"})
_MAX_PORT = 65_535


def opens(record: Record, port: int) -> bool:
    """Returns whether a call allows traffic to a port, even if it failed.

    >>> rule = {"ipProtocol": "tcp", "fromPort": 20, "toPort": 25, "cidrIp": "0.0.0.0/0"}
    >>> opens({"eventName": "AuthorizeSecurityGroupIngress", "requestParameters": rule}, 22)
    True
    """
    if record.get("eventName") not in OPENING:
        return False
    return any(_has(rule, port) for rule in _rules(record.get("requestParameters")))


def _rules(parameters: Any) -> Iterator[Mapping[str, Any]]:
    """Yields the rules in a request, their members in lower case."""
    left = [parameters]
    while left:
        node = left.pop()
        if isinstance(node, list):
            left += node
        elif isinstance(node, dict):
            left += node.values()
            rule = {name.lower(): value for name, value in node.items()}
            if rule.keys() & {"fromport", "toport", "ipprotocol", "protocol"}:
                yield rule


def _has(rule: Mapping[str, Any], port: int) -> bool:
    protocol = str(rule.get("ipprotocol") or rule.get("protocol") or "").lower()
    if protocol in _ANY_PROTOCOL:
        return True
    first, last = _port(rule.get("fromport")), _port(rule.get("toport"))
    if protocol in _WITHOUT_PORTS or first is None:
        return False
    if first == -1:
        return True
    return first <= port <= (first if last is None else last)


def _port(value: Any) -> int | None:
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if -1 <= number <= _MAX_PORT else None


#: Maximum wildcards of a pattern: each costs CPU for each compared value.
MAX_WILDCARDS: Final = 64


@dataclass(frozen=True, slots=True)
class Pattern:
    """A string with wildcards: `*` for any characters, `?` for one; a backslash makes one literal.

    `parts` are literal strings, None for `*` and `Ellipsis` for `?`.
    """

    parts: tuple[Any, ...]

    @classmethod
    def parse(cls, text: str) -> Pattern:
        """Returns the pattern in `text`; several `*` are one.

        Raises:
            UsageError: it has more than `MAX_WILDCARDS`.
        """
        parts: list[Any] = []
        literal = ""
        characters = iter(text)
        for character in characters:
            if character in "*?":
                parts += [literal] if literal else []
                literal = ""
                wildcard = None if character == "*" else ...
                if wildcard is not None or not parts or parts[-1] is not None:
                    parts.append(wildcard)
            else:
                literal += next(characters, "\\") if character == "\\" else character
        if len(parts) - sum(isinstance(part, str) for part in parts) > MAX_WILDCARDS:
            raise UsageError(f"a value must have at most {MAX_WILDCARDS} wildcards")
        return cls(tuple([*parts, literal] if literal or not parts else parts))

    @property
    def plain(self) -> str | None:
        """The string, if there are no wildcards."""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], str) else None

    @property
    def literals(self) -> list[str]:
        """The literal parts."""
        return [part for part in self.parts if isinstance(part, str)]

    def matches(self, text: str) -> bool:
        """Whether the whole string matches.

        >>> Pattern.parse("Create*").matches("CreateUser")
        True
        """
        plain = self.plain
        return text == plain if plain is not None else bool(regex_of(self).fullmatch(text))


@lru_cache(512)
def regex_of(pattern: Pattern) -> re.Pattern[str]:
    """Returns a matcher of whole strings, in time linear in their length for each `*`."""
    chunks = [""]
    for part in pattern.parts:
        if part is None:
            chunks.append("")
        else:
            chunks[-1] += "." if part is ... else re.escape(part)
    return re.compile(with_anything_between(chunks), re.DOTALL)


class And(msgspec.Struct, frozen=True, tag=True):
    """All parts match."""

    parts: tuple[Expression, ...]


class Or(msgspec.Struct, frozen=True, tag=True):
    """At least one part matches."""

    parts: tuple[Expression, ...]


class Not(msgspec.Struct, frozen=True, tag=True):
    """The part does not match."""

    part: Expression


class Compare(msgspec.Struct, frozen=True, tag=True):
    """A field or path compared with a value; one match among a path's values is enough.

    `path` is a single name of `Attributes`, or the members that lead to a value of the record.
    """

    path: tuple[str, ...]
    operator: str
    value: str
    #: Whether `path` is a field of `Attributes`.
    is_field: bool

    @property
    def pattern(self) -> Pattern:
        """The value as a pattern, for `=`."""
        return _parsed(self.value)


_parsed = lru_cache(512)(Pattern.parse)


def literal(text: str) -> str:
    r"""Returns the value of a comparison that matches only this text.

    >>> literal("a*b")
    'a\\*b'
    """
    return re.sub(r"([*?\\])", r"\\\1", text)


class Text(msgspec.Struct, frozen=True, tag=True):
    """Words that occur in one of the record's values, ignoring case.

    With adjacent letters or digits they are other words, unless `is_part` is set: `Mary` is in
    `Mary_Major`, not in `primary`. A capital letter begins a word: `denied` is in `AccessDenied`.
    """

    text: str
    is_part: bool = False


class Is(msgspec.Struct, frozen=True, tag=True):
    """An outcome (`success`, `failure`) or a kind (`read`, `write`)."""

    state: str


class Opens(msgspec.Struct, frozen=True, tag=True):
    """A call that allows traffic to a port; see `opens`."""

    port: int


class Between(msgspec.Struct, frozen=True, tag=True):
    """A time from `start` on and before `end`; None leaves a side open."""

    start: datetime | None
    end: datetime | None


Expression = And | Or | Not | Compare | Text | Is | Opens | Between


def conditions_in(expression: Expression) -> Iterator[Expression]:
    """Yields the conditions that an expression combines."""
    match expression:
        case And(parts) | Or(parts):
            for part in parts:
                yield from conditions_in(part)
        case Not(part):
            yield from conditions_in(part)
        case _:
            yield expression


def fields_in(expression: Expression) -> set[str]:
    """Returns the fields of `Attributes` that an expression uses.

    >>> sorted(fields_in(And((Compare(("region",), "=", "eu-west-1", True), Text("x")))))
    ['region']
    """
    found = conditions_in(expression)
    return {each.path[0] for each in found if isinstance(each, Compare) and each.is_field}


# Evaluation


def holds(expression: Expression, attributes: Attributes, record: Record) -> bool:
    """Returns whether an event matches."""
    return _HOLDS[type(expression)](expression, attributes, record)


def _compare(compare: Compare, attributes: Attributes, record: Record) -> bool:
    if compare.operator == "!=":
        same = Compare(compare.path, "=", compare.value, compare.is_field)
        return not _compare(same, attributes, record)
    if compare.is_field:
        values = field_values(attributes, compare.path[0])
    else:
        values = list(values_at(record, compare.path))
    fits = _FITS[compare.operator]
    return any(fits(compare, value) for value in values)


def field_values(attributes: Attributes, name: str) -> list[Any]:
    """Returns the values of a field; an empty sequence if it is empty."""
    if name == "resource_names":
        return [resource.name for resource in attributes.resources]
    if name == "resource_types":
        return [resource.type for resource in attributes.resources if resource.type]
    value = getattr(attributes, name)
    return [] if value is None else [value]


def nodes_at(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yields the values at a path; searches lists. Callers may nest arbitrarily deep."""
    left = [(value, 0)]
    while left:
        node, depth = left.pop()
        if node.__class__ is list:
            left += [(item, depth) for item in reversed(node)]
        elif depth == len(path):
            yield node
        elif node.__class__ is dict and path[depth] in node:
            left.append((node[path[depth]], depth + 1))


def values_at(value: Any, path: Sequence[str]) -> Iterator[Any]:
    """Yields the scalars at a path; at every step lists are searched."""
    return (
        node for node in nodes_at(value, path) if node is not None and node.__class__ is not dict
    )


def as_text(value: Any) -> str:
    """Returns a scalar as a string for comparison: booleans and numbers as in JSON."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return str(value)


def _equals(compare: Compare, value: Any) -> bool:
    network = network_of(compare)
    if network is not None:
        return _is_within(as_text(value), network)
    if compare.path == ("event_source",) and compare.is_field and "." not in compare.value:
        return compare.pattern.matches(as_text(value).removesuffix(".amazonaws.com"))
    return compare.pattern.matches(as_text(value))


#: Ends of the names of members that hold an address or a network.
_ADDRESSES = ("ip", "ipaddress", "ipv6", "cidr", "cidrblock")


def network_of(compare: Compare) -> Any:
    """Returns the network in a comparison with addresses; None for other comparisons."""
    if "/" not in compare.value or not compare.path[-1].lower().endswith(_ADDRESSES):
        return None
    return _network(compare.value)


@lru_cache(256)
def _network(text: str) -> Any:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _is_within(text: str, network: Any) -> bool:
    """Whether a string is an address or a network in another network, which includes itself."""
    if "/" in text:
        inner = _network(text)
        return inner is not None and inner.version == network.version and inner.subnet_of(network)
    try:
        return ipaddress.ip_address(text) in network
    except ValueError:
        return False


def _contains(compare: Compare, value: Any) -> bool:
    return compare.value.lower() in as_text(value).lower()


def _ordered(decide: Callable[[Any, Any], bool]) -> Callable[[Compare, Any], bool]:
    def fits(compare: Compare, value: Any) -> bool:
        if isinstance(value, datetime):
            return decide(value, parse_time(compare.value))
        bound, number = _number(compare.value), _number(value)
        if bound is not None and number is not None:
            return decide(number, bound)
        return decide(as_text(value), compare.value)

    return fits


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


_FITS: Mapping[str, Callable[[Compare, Any], bool]] = {
    "=": _equals,
    ":": _contains,
    "<": _ordered(lambda a, b: a < b),
    "<=": _ordered(lambda a, b: a <= b),
    ">": _ordered(lambda a, b: a > b),
    ">=": _ordered(lambda a, b: a >= b),
}


def _text(text: Text, _attributes: Attributes, record: Record) -> bool:
    return any(occurs(text, value) for value in all_values(record))


def occurs(text: Text, value: Any) -> bool:
    """Returns whether a scalar has the words."""
    original = as_text(value)
    if text.text.lower() not in original.lower():
        return False
    return text.is_part or bool(_words(text.text).search(original))


@lru_cache(256)
def _words(text: str) -> re.Pattern[str]:
    """Returns a pattern of whole words: `denied` is a word of AccessDenied."""
    capital = r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])"
    before = rf"(?:(?<![^\W_])|{capital})" if text[:1].isalnum() else ""
    after = rf"(?:(?![^\W_])|{capital})" if text[-1:].isalnum() else ""
    return re.compile(f"{before}(?i:{re.escape(text)}){after}")


def all_values(record: Record) -> Iterator[Any]:
    """Yields the scalars of a record, in any order."""
    left: list[Any] = [record]
    while left:
        node = left.pop()
        if node.__class__ is dict:
            left += node.values()
        elif node.__class__ is list:
            left += node
        elif node is not None:
            yield node


def _is(is_: Is, attributes: Attributes, record: Record) -> bool:
    if is_.state in ("success", "failure"):
        # Only a failed login has no error code (see `refusal`).
        is_login = attributes.event_source == SIGN_IN
        failed = attributes.error_code is not None or (is_login and refusal(record) is not None)
        return failed == (is_.state == "failure")
    return attributes.read_only == (is_.state == "read")


def _between(between: Between, attributes: Attributes, _record: Record) -> bool:
    moment = attributes.event_time
    after = between.start is None or moment >= between.start
    return after and (between.end is None or moment < between.end)


_HOLDS: Mapping[type, Callable[[Any, Attributes, Record], bool]] = {
    And: lambda e, a, r: all(holds(part, a, r) for part in e.parts),
    Or: lambda e, a, r: any(holds(part, a, r) for part in e.parts),
    Not: lambda e, a, r: not holds(e.part, a, r),
    Compare: _compare,
    Text: _text,
    Is: _is,
    Opens: lambda opened, _attributes, record: opens(record, opened.port),
    Between: _between,
}
