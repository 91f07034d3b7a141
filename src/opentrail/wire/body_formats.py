"""Bodies by shape: forms of the query and ec2 protocols, JSON (and CBOR), XML."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any
from xml.parsers import expat

from botocore.model import Shape
from msgspec import Struct

from opentrail.core.event import Json
from opentrail.wire.values import ByShape, Decoder, from_json, from_text

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

        `operation` names the entries of SQS's batches, `name` is the name of the member.
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

        def decode(tree: Tree) -> Json:
            decoded: Json = {}
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

        def decode(node: Tree) -> Json:
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


class JsonDecoders(ByShape):
    """Decoders of one service's shapes."""

    def decoder(self, shape: Shape) -> Decoder:
        make = {"structure": self._structure, "list": self._list, "map": self._map}.get(
            shape.type_name
        )
        if make is None or getattr(shape, "is_document_type", False):
            return from_json(shape)
        return self.memoize(shape.name, lambda: make(shape))

    def _structure(self, shape: Any) -> Decoder:
        members: dict[str, tuple[str, Decoder]] = {}
        for name, member in shape.members.items():
            wire_name = member.serialization.get("name", name)
            members[wire_name] = (name, self.decoder(member))

        def decode(value: Any) -> Any:
            if not isinstance(value, dict):
                return value
            decoded = {}
            for wire_name, item in value.items():
                if item is None:
                    continue
                member_decoder = members.get(wire_name)
                if member_decoder is None:
                    decoded[wire_name] = item
                else:
                    decoded[member_decoder[0]] = member_decoder[1](item)
            return decoded

        return decode

    def _list(self, shape: Any) -> Decoder:
        item = self.decoder(shape.member)

        def decode(value: Any) -> Any:
            return [item(v) for v in value] if isinstance(value, list) else value

        return decode

    def _map(self, shape: Any) -> Decoder:
        item = self.decoder(shape.value)

        def decode(value: Any) -> Any:
            return {k: item(v) for k, v in value.items()} if isinstance(value, dict) else value

        return decode


@lru_cache(maxsize=1024)
def json_decoders(service: str) -> JsonDecoders:
    """Returns the decoders of a service, shared by all requests."""
    del service
    return JsonDecoders()


_MAX_BODY_DEPTH = 512


class Element(Struct):
    """An element by its name without its prefix; attributes include `xmlns`."""

    local_name: str
    attributes: dict[str, str]
    children: list[Element] = []
    text: str = ""

    def child(self, name: str) -> Element | None:
        """Returns the first child of this local name."""
        for child in self.children:
            if child.local_name == name:
                return child
        return None

    def text_of(self, name: str) -> str | None:
        """Returns the text of the first child of this local name."""
        child = self.child(name)
        return child.text if child is not None else None


XmlDecoder = Callable[[Element], Any]


def parse_xml(raw: bytes) -> Element:
    """Returns the root element.

    Raises:
        ValueError: not well-formed, with a document type (entities), or nested too deeply.
    """
    root = Element("", {})
    stack = [root]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > _MAX_BODY_DEPTH:
            raise ValueError("XML is nested too deeply")
        local_name = name.rpartition(":")[2] if ":" in name else name
        element = Element(local_name, attributes)
        stack[-1].children.append(element)
        stack.append(element)

    def end(_name: str) -> None:
        stack.pop()

    def characters(text: str) -> None:
        stack[-1].text += text

    def refuse(*_: object) -> None:
        raise ValueError("XML with a document type is not accepted")

    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = characters
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(raw, True)
    except (expat.ExpatError, LookupError) as error:
        raise ValueError(f"not well-formed XML: {error}") from error
    return root.children[0]


class XmlDecoders(ByShape):
    """Decoders of one service's shapes."""

    def decoder(self, shape: Any) -> XmlDecoder:
        """Returns the decoder of `shape`, which reads an element."""
        make = {"structure": _structure, "list": _list, "map": _map}.get(shape.type_name)
        if make is None:
            of_text = from_text(shape)
            return lambda element: of_text(element.text)
        key = shape.name, bool(shape.serialization.get("flattened"))
        return self.memoize(key, lambda: make(self, shape))


@lru_cache(maxsize=1024)
def xml_decoders(service: str) -> XmlDecoders:
    """Returns the decoders of a service, shared by all calls."""
    del service
    return XmlDecoders()


_ELSEWHERE = ("uri", "querystring", "header", "headers", "statusCode")


class _Members:
    """The members of a structure by their local names in XML."""

    def __init__(self, decoders: XmlDecoders, shape: Any) -> None:
        self.single: dict[str, tuple[str, XmlDecoder]] = {}
        self.repeated: dict[str, tuple[str, bool, XmlDecoder]] = {}
        self.attributes: dict[str, str] = {}
        for name, member in shape.members.items():
            traits = member.serialization
            wire_name = traits.get("name", name)
            if traits.get("location") in _ELSEWHERE:
                continue
            if traits.get("xmlAttribute"):
                self.attributes[wire_name.rpartition(":")[2]] = name
            elif member.type_name == "list" and traits.get("flattened"):
                wire_name = member.member.serialization.get("name", wire_name)
                self.repeated[wire_name] = (name, False, decoders.decoder(member.member))
            elif member.type_name == "map" and traits.get("flattened"):
                self.repeated[wire_name] = (name, True, _pairs(decoders, member))
            else:
                self.single[wire_name] = (name, decoders.decoder(member))


def _structure(decoders: XmlDecoders, shape: Any) -> XmlDecoder:
    members = _Members(decoders, shape)
    single, repeated, attributes = members.single, members.repeated, members.attributes

    def decode(element: Element) -> Json:
        decoded: Json = {}
        for child in element.children:
            member_decoder = single.get(child.local_name)
            if member_decoder is not None:
                # The first of repeated members counts.
                if member_decoder[0] not in decoded:
                    decoded[member_decoder[0]] = member_decoder[1](child)
            elif child.local_name in repeated:
                _add(decoded, repeated[child.local_name], child)
        if attributes:
            for attribute, value in element.attributes.items():
                name = attributes.get(attribute.rpartition(":")[2])
                if name is not None:
                    decoded[name] = value
        return decoded

    return decode


def _add(decoded: Json, member: tuple[str, bool, XmlDecoder], child: Element) -> None:
    name, is_map, item = member
    value = item(child)
    if not is_map:
        decoded.setdefault(name, []).append(value)
    elif value is not None:
        decoded.setdefault(name, {})[value[0]] = value[1]
    else:
        decoded.setdefault(name, {})


def _list(decoders: XmlDecoders, shape: Any) -> XmlDecoder:
    item = decoders.decoder(shape.member)
    if shape.serialization.get("flattened"):
        return lambda element: [item(element)]
    return lambda element: [item(child) for child in element.children]


def _map(decoders: XmlDecoders, shape: Any) -> XmlDecoder:
    pair = _pairs(decoders, shape)
    return lambda element: dict(filter(None, map(pair, element.children)))


def _pairs(decoders: XmlDecoders, shape: Any) -> XmlDecoder:
    """Returns the decoder of a map's entry: key and value, None without a key."""
    key_name = shape.key.serialization.get("name", "key")
    value_name = shape.value.serialization.get("name", "value")
    item = decoders.decoder(shape.value)

    def pair(entry: Element) -> tuple[str, Any] | None:
        key, value = entry.child(key_name), entry.child(value_name)
        if key is None:
            return None
        return key.text, item(value) if value is not None else None

    return pair
