"""Answers that differ only in their texts from those before them, read without parsing them anew.

Of an operation's answers nearly all have the same elements. Once two in a row had, a regular
expression made of them reads the texts of further ones, at a quarter of the price. It matches only
what is sure to be well-formed and to mean the same; everything else is parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import TypeVar

from opentrail.wire.protocols.xml_body import Element, parse_xml

#: Longer documents, and more forms than these, are not worth their memory.
_LONGEST, _MOST_FORMS, _MOST_KEYS, _DEEPEST = 4_096, 500, 1_000, 50
#: Answers of an operation that come without a form before no more are looked for.
_TRIES = 20
_TAG = re.compile(rb"<([^<>]*)>")
_SIMPLE_TAG = re.compile(rb'([A-Za-z_][\w.-]*)(?: xmlns="[^"&]*")?|/([A-Za-z_][\w.-]*)')
_PROLOG = re.compile(rb"\?xml version=[\"']1\.0[\"'](?: encoding=[\"']utf-8[\"'])?\s*\?", re.I)
#: Texts that mean what they say: printable ASCII, tabs and line feeds, without markup.
_TEXT = rb"([\t\n\x20-\x25\x27-\x3b\x3d\x3f-\x7e]*)"
_PLAIN = re.compile(_TEXT)

T = TypeVar("T")


class _Form:
    """Documents that have the same elements and differ in the texts of the innermost."""

    def __init__(self, pattern: re.Pattern[bytes], root: Element) -> None:
        self._pattern = pattern
        self._root = root
        #: Trees that nobody reads just now; taking one is atomic.
        self._spare: list[tuple[Element, list[Element]]] = []

    def read(self, raw: bytes, decode: Callable[[Element], T]) -> tuple[T] | None:
        """Returns what `decode` makes of the document, None if it has another form."""
        found = self._pattern.fullmatch(raw)
        if found is None:
            return None
        try:
            root, leaves = self._spare.pop()
        except IndexError:
            root = _copy(self._root)
            leaves = _leaves(root)
        for leaf, text in zip(leaves, found.groups(), strict=True):
            leaf.text = text.decode("ascii")
        decoded = decode(root)
        self._spare.append((root, leaves))
        return (decoded,)


class XmlForms:
    """Reads documents of many kinds. `decode` must not keep the elements that it is given."""

    def __init__(self) -> None:
        self._forms: dict[Hashable, _Form] = {}
        #: Of keys without a form: how often one was looked for, and the last document's tags.
        self._tries: dict[Hashable, tuple[int, list[bytes]]] = {}

    def read(self, key: Hashable, raw: bytes, decode: Callable[[Element], T]) -> T:
        """Returns what `decode` makes of the document's root.

        Args:
            key: documents with the same key are likely to have the same form.
            raw: the document.
            decode: reads it.

        Raises:
            ValueError: as `parse_xml`.
        """
        form = self._forms.get(key)
        if form is not None:
            read = form.read(raw, decode)
            if read is not None:
                return read[0]
        root = parse_xml(raw)
        if form is None and len(raw) <= _LONGEST:
            self._look_for_form(key, raw, root)
        return decode(root)

    def _look_for_form(self, key: Hashable, raw: bytes, root: Element) -> None:
        tries, before = self._tries.get(key, (0, []))
        if tries >= _TRIES or (not tries and len(self._tries) >= _MOST_KEYS):
            return
        tags = _TAG.findall(raw)
        if tags == before and len(self._forms) < _MOST_FORMS:
            form = _form_of(raw, root)
            if form is not None:
                self._forms[key] = form
        self._tries[key] = (tries + 1, tags)


def _form_of(raw: bytes, root: Element) -> _Form | None:
    """Returns the form of a document that was parsed, None if it is not simple enough."""
    if _depth(root) > _DEEPEST:
        return None
    parts = _TAG.split(raw)
    tags, texts = parts[1::2], parts[2::2]
    if parts[0].strip() or not all(map(_PLAIN.fullmatch, parts[::2])):
        return None
    pattern, inner = [re.escape(parts[0])], []
    for index, (tag, text) in enumerate(zip(tags, texts, strict=True)):
        if not (_SIMPLE_TAG.fullmatch(tag) or (index == 0 and _PROLOG.fullmatch(tag))):
            return None
        is_innermost = index + 1 < len(tags) and tags[index + 1] == b"/" + tag.split()[0]
        pattern.append(re.escape(b"<%s>" % tag))
        pattern.append(_TEXT if is_innermost else re.escape(text))
        if is_innermost:
            inner.append(text.decode("ascii"))
    if [leaf.text for leaf in _leaves(root)] != inner:
        return None
    return _Form(re.compile(b"".join(pattern)), _copy(root))


def _depth(root: Element) -> int:
    depth, level = 0, [root]
    while level:
        depth, level = depth + 1, [child for element in level for child in element.children]
    return depth


def _copy(element: Element) -> Element:
    copied = Element(element.name, dict(element.attributes))
    copied.text = element.text
    copied.children = [_copy(child) for child in element.children]
    return copied


def _leaves(element: Element) -> list[Element]:
    """Returns the innermost elements, in the order of the document."""
    if not element.children:
        return [element]
    return [leaf for child in element.children for leaf in _leaves(child)]
