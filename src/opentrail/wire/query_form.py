"""Fields of the query protocols: those of a form in the body, then those of the query string."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from urllib.parse import unquote

from opentrail.wire.message import Request


def field_values(request: Request, name: str) -> Iterator[str]:
    """Yields the values of a field as `query_pairs` has them, one for those that are repeated.

    The other fields are passed over: a form may have millions.
    """
    values = _field(name).findall(f"&{_form_text(request)}&{request.query}")
    return map(_unquoted, map(itemgetter(0), groupby(values)))


def last_value(request: Request, name: str) -> str:
    """Returns the last value of a field of the body's form, '' without one."""
    values = _field(name).findall(f"&{_form_text(request)}")
    return _unquoted(values[-1]) if values else ""


@lru_cache
def _field(name: str) -> re.Pattern[str]:
    """Returns the pattern of a field after an `&`."""
    return re.compile(f"&{quotable(name).decode()}(?:=([^&]*)|(?=&|\\Z))")


def quotable(name: str) -> bytes:
    """Returns the pattern of a name, any letter of which may be quoted."""
    return "".join(f"(?:{letter}|(?i:%{ord(letter):02x}))" for letter in name).encode()


def query_pairs(request: Request) -> list[tuple[str, str]]:
    """Returns the fields of a query-protocol request: those of its form, then of its query."""
    return _pairs_of(f"{_form_text(request)}&{request.query}")


def _form_text(request: Request) -> str:
    if "form-urlencoded" not in request.headers.get("content-type", ""):
        return ""
    return request.body.decode("utf-8", "surrogateescape")


def _pairs_of(text: str) -> list[tuple[str, str]]:
    """Returns the fields of a form, as `parse_qsl` with blank values does."""
    pairs = []
    for part in text.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        if "%" in part or "+" in part:
            name, value = _unquoted(name), _unquoted(value)
        pairs.append((name, value))
    return pairs


def _unquoted(text: str) -> str:
    return unquote(text.replace("+", " "), errors="surrogateescape")
