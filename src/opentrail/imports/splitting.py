"""Splits JSON lists and objects into the exact bytes of their parts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

import msgspec

from opentrail.imports.records import DUPLICATE_MEMBER, NOT_JSON, NOT_UTF8, TOO_DEEP, InvalidText

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}")
#: As long as the escape that it replaces.
_PLACEHOLDER = rb"\\u0041"
_BEFORE_ELEMENT = re.compile(rb"[ \t\r\n,]*")
_BEFORE_VALUE = re.compile(rb'[ \t\r\n,]*"(?:[^"\\]|\\.)*"[ \t\r\n]*:[ \t\r\n]*')

#: The bytes of a part of a JSON text.
Slice = msgspec.Raw | bytes
Parts = TypeVar("Parts")

_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])


def members_of(text: bytes) -> Mapping[str, Slice]:
    """Returns the members of a JSON object, each as its bytes.

    Raises:
        InvalidText: it is not a JSON object, or a member occurs twice.
    """
    try:
        members = _MEMBERS.decode(text)
        readable = text
    except (ValueError, RecursionError) as error:
        readable = _without_surrogates(text, error)
        members = _decoded(_MEMBERS, readable)
    # Of two members with one name only one is decoded: some quotation marks are missing.
    quotes = sum(2 + name.count('"') + bytes(value).count(b'"') for name, value in members.items())
    if quotes != readable.count(b'"'):
        raise InvalidText(DUPLICATE_MEMBER)
    if readable is text:
        return members
    return dict(zip(members, _parts(text, members.values(), _BEFORE_VALUE), strict=True))


def split(list_text: bytes | memoryview) -> Sequence[Slice]:
    """Returns the elements of a JSON list, each as its bytes.

    Raises:
        InvalidText: it is not a JSON list.
    """
    try:
        return _ELEMENTS.decode(list_text)
    except (ValueError, RecursionError) as error:
        text = bytes(list_text)
        like = _decoded(_ELEMENTS, _without_surrogates(text, error))
        return _parts(text, like, _BEFORE_ELEMENT)


def _without_surrogates(text: bytes, error: Exception) -> bytes:
    """Returns a copy of the same length without escaped surrogates.

    msgspec rejects a whole text for a lone surrogate. The copy shows where the parts begin and
    end, so that only the record with the lone surrogate is rejected.
    """
    copy = _SURROGATE.sub(_PLACEHOLDER, text)
    if copy == text:
        raise _unreadable(error, text) from error
    return copy


def _decoded(decoder: msgspec.json.Decoder[Parts], text: bytes) -> Parts:
    try:
        return decoder.decode(text)
    except (ValueError, RecursionError) as error:
        raise _unreadable(error, text) from error


def _parts(text: bytes, like: Iterable[msgspec.Raw], before: re.Pattern[bytes]) -> list[bytes]:
    """Splits a list or object where its copy has its parts."""
    parts: list[bytes] = []
    position = 1
    for part in like:
        match = before.match(text, position)
        if match is None:
            raise InvalidText(NOT_JSON)
        end = match.end() + len(bytes(part))
        parts.append(text[match.end() : end])
        position = end
    return parts


def _unreadable(error: Exception, text: bytes) -> InvalidText:
    if isinstance(error, RecursionError):
        return InvalidText(TOO_DEEP)
    if isinstance(error, UnicodeDecodeError):
        return InvalidText(NOT_UTF8, "in the name of a member")
    message = str(error)
    if message == "Input data was truncated":
        return InvalidText(NOT_JSON, f"it ends early, at byte {len(text)}")
    return InvalidText(NOT_JSON, message)
