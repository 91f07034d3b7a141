"""Ports that calls let traffic in to, in all forms in which EC2 and Lightsail record them.

EC2 records `ipPermissions.items`, in its older form the members of one rule themselves, and of
ModifySecurityGroupRules members in capitals. Where traffic comes from may be a network of IPv4 or
IPv6, a prefix list or a security group: it does not matter here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from opentrail.core.event import Record

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
    """Returns whether a call lets traffic in to a port, whatever its outcome.

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
