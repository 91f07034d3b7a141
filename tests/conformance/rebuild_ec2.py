"""Converts EC2's two forms of parameters back to botocore's, independent of `rules/ec2.toml`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.conformance.rebuild_values import HIDDEN, scalar_of, secret_of

#: Recorded names that no rule maps back to the wire name.
_WIRE_NAMES = {
    "aclProtocol": "Protocol",
    "attributeType": "Attribute",
    "filterSet": "Filter",
    "icmpTypeCode": "Icmp",
    "networkInterfaceSet": "NetworkInterface",
    "privateIpAddressesSet": "PrivateIpAddresses",
    "tagSet": "Tag",
    "tagSpecificationSet": "TagSpecification",
    "tags": "Tag",
    "zone": "AvailabilityZone",
}
#: Names of a list's only scalar that no rule maps back to the wire name.
_ITEM_NAMES = {
    "groupSet": "SecurityGroupId",
    "ownersSet": "Owner",
    "sharedUsersSet": "RestorableBy",
}
_SPELT = {"CREATE_VOLUME_PERMISSION": "createVolumePermission"}


def ec2_parameters(shape: Any, given: Mapping[str, Any], unknown: set[str]) -> dict[str, Any]:
    """Returns botocore's parameters for an EC2 record's."""
    only = next(iter(given), "")
    if len(given) == 1 and only[:1].isupper():
        inner = given[only]
        return _Later(unknown).structure(shape, inner if isinstance(inner, dict) else {}, only)
    return _Earlier(unknown).structure(shape, given, "")


def _by_wire_name(shape: Any) -> dict[str, tuple[str, Any]]:
    members = {}
    for name, member in shape.members.items():
        located = member.serialization.get("queryName") or member.serialization.get("name", name)
        members[located.casefold()] = (name, member)
    return members


class _Earlier:
    def __init__(self, unknown: set[str]) -> None:
        self._unknown = unknown

    def structure(self, shape: Any, given: Mapping[str, Any], path: str) -> dict[str, Any]:
        members = _by_wire_name(shape)
        found: dict[str, Any] = {}
        for key, shown in given.items():
            where = f"{path}.{key}" if path else key
            if shown == {} and key != "noDevice":
                continue  # nothing was given
            if key == "instancesSet" and "imageid" in members:
                found.update(self.structure(shape, shown["items"][0], f"{where}.items[]"))
                continue
            if key in ("tenancy", "availabilityZone") and "placement" in members:
                part = {"tenancy": "Tenancy", "availabilityZone": "AvailabilityZone"}[key]
                found.setdefault("Placement", {})[part] = shown
                continue
            wire_name = self._wire_name(key, shown)
            if wire_name.casefold() not in members:
                self._unknown.add(where)
                continue
            name, member = members[wire_name.casefold()]
            found[name] = self._value(member, shown, where)
        return found

    def _wire_name(self, key: str, shown: Any) -> str:
        items = _items(shown)
        if items and isinstance(items[0], dict) and len(items[0]) == 1:
            only, value = next(iter(items[0].items()))
            plain = not isinstance(value, dict | list)
            if plain and key not in _WIRE_NAMES and key.endswith("Set"):
                return _ITEM_NAMES.get(key) or only
        return _WIRE_NAMES.get(key, key.removesuffix("Set"))

    def _value(self, shape: Any, shown: Any, path: str) -> Any:
        if isinstance(shown, str) and shown in HIDDEN:
            return secret_of(shape)
        items = _items(shown)
        if shape.type_name == "list" and items is not None:
            inner = f"{path}.items[]"
            if shape.member.type_name == "structure":
                return [self.structure(shape.member, item, inner) for item in items]
            return [next(iter(i.values())) if isinstance(i, dict) else i for i in items]
        if shape.type_name == "structure" and isinstance(shown, dict):
            return self.structure(shape, shown, path)
        if shown == {}:
            return ""
        return scalar_of(shape, _SPELT.get(shown, shown))


def _items(shown: Any) -> list[Any] | None:
    if isinstance(shown, list):
        return shown
    if isinstance(shown, dict):
        for wrapper in ("items", "item"):
            if wrapper in shown:
                return list(shown[wrapper])
    return None


class _Later:
    def __init__(self, unknown: set[str]) -> None:
        self._unknown = unknown

    def structure(self, shape: Any, given: Mapping[str, Any], path: str) -> dict[str, Any]:
        members = _by_wire_name(shape)
        found = {}
        for key, shown in given.items():
            if key == "tag":
                continue
            where = f"{path}.{key}"
            if key.casefold() not in members:
                self._unknown.add(where)
                continue
            name, member = members[key.casefold()]
            found[name] = self._value(member, shown, where)
        return found

    def _value(self, shape: Any, shown: Any, path: str) -> Any:
        if isinstance(shown, str) and shown in HIDDEN:
            return secret_of(shape)
        if shape.type_name == "list":
            items = shown if isinstance(shown, list) else [shown]
            return [self._item(shape.member, item, path) for item in items]
        if shape.type_name == "structure":
            return self.structure(shape, shown, path)
        return scalar_of(shape, shown)

    def _item(self, shape: Any, shown: Mapping[str, Any], path: str) -> Any:
        if shape.type_name == "structure":
            return self.structure(shape, shown, path)
        return scalar_of(shape, shown["content"])
