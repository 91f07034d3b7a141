"""XML: a small tree that keeps every name as it was written, and values by shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from xml.parsers import expat

from opentrail.wire.protocols.values import from_text

_MAX_DEPTH = 512


@dataclass(slots=True)
class Element:
    """An element; names keep their prefixes, attributes include `xmlns`."""

    name: str
    #: The name without its prefix.
    local_name: str
    attributes: dict[str, str] = field(default_factory=dict)
    children: list[Element] = field(default_factory=list)
    text: str = ""

    def child(self, name: str) -> Element | None:
        """Returns the first child of this local name."""
        for child in self.children:
            if child.local_name == name:
                return child
        return None

    def text_of(self, name: str) -> str | None:
        """Returns the text of the first child of this local name."""
        found = self.child(name)
        return found.text if found is not None else None


def parse_xml(raw: bytes) -> Element:
    """Returns the root element.

    Raises:
        ValueError: not well-formed, with a document type (entities), or nested too deeply.
    """
    root = Element("", "")
    stack = [root]
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def start(name: str, attributes: dict[str, str]) -> None:
        if len(stack) > _MAX_DEPTH:
            raise ValueError("XML is nested too deeply")
        element = Element(name, name.rpartition(":")[2], attributes)
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


def from_xml(shape: Any, element: Element) -> Any:
    """Returns the value of `shape` in `element`."""
    return _BY_TYPE.get(shape.type_name, _scalar)(shape, element)


def _scalar(shape: Any, element: Element) -> Any:
    return from_text(shape)(element.text)


def _structure(shape: Any, element: Element) -> dict[str, Any]:
    decoded: dict[str, Any] = {}
    for name, member in shape.members.items():
        traits = member.serialization
        wire_name = traits.get("name", name)
        if traits.get("location") in ("uri", "querystring", "header", "headers", "statusCode"):
            continue
        if traits.get("xmlAttribute"):
            local = wire_name.rpartition(":")[2]
            for attribute, value in element.attributes.items():
                if attribute.rpartition(":")[2] == local:
                    decoded[name] = value
            continue
        if member.type_name in ("list", "map") and traits.get("flattened"):
            if member.type_name == "list":
                wire_name = member.member.serialization.get("name", wire_name)
            found = [c for c in element.children if c.local_name == wire_name]
            if found:
                decoded[name] = _flattened(member, found)
            continue
        child = element.child(wire_name)
        if child is not None:
            decoded[name] = from_xml(member, child)
    return decoded


def _flattened(shape: Any, found: list[Element]) -> Any:
    if shape.type_name == "list":
        return [from_xml(shape.member, item) for item in found]
    return dict(filter(None, (_pair(shape, item) for item in found)))


def _list(shape: Any, element: Element) -> list[Any]:
    if shape.serialization.get("flattened"):
        return [from_xml(shape.member, element)]
    return [from_xml(shape.member, child) for child in element.children]


def _map(shape: Any, element: Element) -> dict[str, Any]:
    return dict(filter(None, (_pair(shape, item) for item in element.children)))


def _pair(shape: Any, entry: Element) -> tuple[str, Any] | None:
    key = entry.child(shape.key.serialization.get("name", "key"))
    value = entry.child(shape.value.serialization.get("name", "value"))
    if key is None:
        return None
    return key.text, from_xml(shape.value, value) if value is not None else None


_BY_TYPE: dict[str, Callable[[Any, Element], Any]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
}
