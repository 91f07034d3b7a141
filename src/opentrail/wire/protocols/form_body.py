"""The query and ec2 protocols: flat `A.B.1.C=value` pairs as nested parameters, by shape."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from botocore.model import Shape

from opentrail.wire.protocols.values import from_text

#: `Name=` with nothing behind it, and children by the next part of the name.
Tree = dict[str | None, Any]
#: Where a node keeps its own value; no part of a name is None.
_VALUE = None

#: SQS's query names, which the model no longer holds: member → wire name.
_SQS_NAMES = {
    "AttributeNames": "AttributeName",
    "Attributes": "Attribute",
    "MessageAttributeNames": "MessageAttributeName",
    "MessageAttributes": "MessageAttribute",
    "MessageSystemAttributes": "MessageSystemAttribute",
    "MessageSystemAttributeNames": "MessageSystemAttributeName",
    "AWSAccountIds": "AWSAccountId",
    "Actions": "ActionName",
    "TagKeys": "TagKey",
    "Tags": "Tag",
    "tags": "Tag",
    "StringListValues": "StringListValue",
    "BinaryListValues": "BinaryListValue",
}
_SQS_MAPS = {"Tags": ("Key", "Value"), "tags": ("Key", "Value")}


def tree_of(pairs: Iterable[tuple[str, str]]) -> Tree:
    """Returns the pairs as a tree over the parts of their names."""
    root: Tree = {}
    for name, value in pairs:
        node = root
        for part in name.split("."):
            node = node.setdefault(part, {})
        node[_VALUE] = value
    return root


class FormDecoder:
    """Decodes trees by shape, for one protocol of one service."""

    def __init__(self, protocol: str, service: str) -> None:
        self._ec2 = protocol == "ec2"
        self._sqs = service == "sqs"

    def structure(self, shape: Any, tree: Tree, operation: str = "") -> dict[str, Any]:
        """Returns the members that `tree` gives."""
        decoded: dict[str, Any] = {}
        for name, member in shape.members.items():
            node = tree.get(self._wire_name(name, member, operation))
            if node is not None:
                decoded[name] = self._value(member, node, name)
        return decoded

    def _wire_name(self, name: str, member: Shape, operation: str) -> str:
        if self._ec2:
            serialization = member.serialization
            own = serialization.get("queryName")
            located = serialization.get("name")
            return own or (located[:1].upper() + located[1:] if located else name)
        if self._sqs:
            if name == "Entries":
                return f"{operation}RequestEntry"
            return _SQS_NAMES.get(name, name)
        if member.type_name == "list" and member.serialization.get("flattened"):
            inner = member.member.serialization.get("name")
            if inner:
                return str(inner)
        return str(member.serialization.get("name", name))

    def _value(self, shape: Any, node: Tree, name: str) -> Any:
        if shape.type_name == "structure":
            return self.structure(shape, node)
        if shape.type_name == "list":
            return self._list(shape, node)
        if shape.type_name == "map":
            return self._map(shape, node, name)
        return from_text(shape)(node.get(_VALUE, ""))

    def _list(self, shape: Any, node: Tree) -> list[Any]:
        if not (self._ec2 or self._sqs or shape.serialization.get("flattened")):
            inner = shape.member.serialization.get("name", "member")
            node = node.get(inner, node)
        return [self._value(shape.member, item, "") for item in _in_order(node)]

    def _map(self, shape: Any, node: Tree, name: str) -> dict[str, Any]:
        flattened = self._sqs or shape.serialization.get("flattened")
        entries = node if flattened else node.get("entry", {})
        key_name = shape.key.serialization.get("name", "Name" if self._sqs else "key")
        value_name = shape.value.serialization.get("name", "Value" if self._sqs else "value")
        if self._sqs:
            key_name, value_name = _SQS_MAPS.get(name, (key_name, value_name))
        decoded = {}
        for entry in _in_order(entries):
            key = entry.get(key_name, {}).get(_VALUE)
            if key is not None:
                decoded[key] = self._value(shape.value, entry.get(value_name, {}), "")
        return decoded


def _in_order(node: Tree) -> list[Tree]:
    """Returns the children with numbers for names, in numeric order."""
    numbered = [
        (int(part), child)
        for part, child in node.items()
        if part is not None and part.isascii() and part.isdigit()
    ]
    return [child for _, child in sorted(numbered, key=lambda pair: pair[0])]
