"""The query and ec2 protocols: flat `A.B.1.C=value` pairs as nested parameters, by shape."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from botocore.model import Shape

from opentrail.wire.protocols.values import ByShape, from_text

#: `Name=` without a value, and children by the next part of the name.
Tree = dict[str | None, Any]
#: Key of a node's value; no part of a name is None.
_VALUE = None

#: SQS's query names, which the model no longer has: member → wire name.
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


FormDecode = Callable[[Tree], Any]


class FormDecoders(ByShape):
    """Decoders of one service's shapes for one protocol."""

    def __init__(self, protocol: str, service: str) -> None:
        super().__init__()
        self._ec2 = protocol == "ec2"
        self._sqs = service == "sqs"

    def decoder(self, shape: Any, operation: str = "", name: str = "") -> FormDecode:
        """Returns the decoder of `shape`, which reads a part of the tree.

        `operation` names the entries of SQS's batches, `name` is that of the member.
        """
        make = {"structure": self._structure, "list": self._list, "map": self._map}.get(
            shape.type_name
        )
        if make is None:
            if shape.type_name == "string":
                return lambda node: node.get(_VALUE, "")
            of_text = from_text(shape)
            return lambda node: of_text(node.get(_VALUE, ""))
        flattened = bool(shape.serialization.get("flattened"))
        key = shape.name, flattened, operation, name if self._sqs else ""
        return self.memoize(key, lambda: make(shape, operation, name))

    def _structure(self, shape: Any, operation: str, _name: str) -> FormDecode:
        members = [
            (name, self._wire_name(name, member, operation), self.decoder(member, "", name))
            for name, member in shape.members.items()
        ]

        def decode(tree: Tree) -> dict[str, Any]:
            decoded: dict[str, Any] = {}
            for name, wire_name, item in members:
                node = tree.get(wire_name)
                if node is not None:
                    decoded[name] = item(node)
            return decoded

        return decode

    def _wire_name(self, name: str, member: Shape, operation: str) -> str:
        if self._ec2:
            serialization = member.serialization
            query_name = serialization.get("queryName")
            located = serialization.get("name")
            return query_name or (located[:1].upper() + located[1:] if located else name)
        if self._sqs:
            if name == "Entries":
                return f"{operation}RequestEntry"
            return _SQS_NAMES.get(name, name)
        if member.type_name == "list" and member.serialization.get("flattened"):
            inner = member.member.serialization.get("name")
            if inner:
                return str(inner)
        return str(member.serialization.get("name", name))

    def _list(self, shape: Any, _operation: str, _name: str) -> FormDecode:
        item = self.decoder(shape.member)
        if self._ec2 or self._sqs or shape.serialization.get("flattened"):
            return lambda node: [item(child) for child in _in_order(node)]
        inner = shape.member.serialization.get("name", "member")
        return lambda node: [item(child) for child in _in_order(node.get(inner, node))]

    def _map(self, shape: Any, _operation: str, name: str) -> FormDecode:
        flattened = self._sqs or shape.serialization.get("flattened")
        key_name = shape.key.serialization.get("name", "Name" if self._sqs else "key")
        value_name = shape.value.serialization.get("name", "Value" if self._sqs else "value")
        if self._sqs:
            key_name, value_name = _SQS_MAPS.get(name, (key_name, value_name))
        item = self.decoder(shape.value)

        def decode(node: Tree) -> dict[str, Any]:
            decoded = {}
            for entry in _in_order(node if flattened else node.get("entry", {})):
                key = entry.get(key_name, {}).get(_VALUE)
                if key is not None:
                    decoded[key] = item(entry.get(value_name, {}))
            return decoded

        return decode


@lru_cache(maxsize=1024)
def form_decoders(protocol: str, service: str) -> FormDecoders:
    """Returns the decoders of a service, shared by all requests."""
    return FormDecoders(protocol, service)


def _in_order(node: Tree) -> list[Tree]:
    """Returns the children with numbers for names, in numeric order."""
    numbered = [
        (int(part), child)
        for part, child in node.items()
        if part is not None and part.isascii() and part.isdigit()
    ]
    return [child for _, child in sorted(numbered, key=lambda pair: pair[0])]
