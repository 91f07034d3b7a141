"""XML: a tree of elements with their names as written, and values by shape."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any
from xml.parsers import expat

from opentrail.wire.protocols.values import ByShape, from_text

_MAX_DEPTH = 512


class Element:
    """An element; names keep their prefixes, attributes include `xmlns`."""

    __slots__ = ("attributes", "children", "local_name", "name", "text")

    def __init__(self, name: str, attributes: dict[str, str]) -> None:
        self.name = name
        #: The name without its prefix.
        self.local_name = name.rpartition(":")[2] if ":" in name else name
        self.attributes = attributes
        self.children: list[Element] = []
        self.text = ""

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
        if len(stack) > _MAX_DEPTH:
            raise ValueError("XML is nested too deeply")
        element = Element(name, attributes)
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

    def decode(element: Element) -> dict[str, Any]:
        decoded: dict[str, Any] = {}
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


def _add(decoded: dict[str, Any], member: tuple[str, bool, XmlDecoder], child: Element) -> None:
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
