"""Fields of the query protocols: those of a form in the body, then those of the query string."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote

from opentrail.wire.message import Request


def form_text(request: Request) -> str:
    """Returns the form in the body and the query, each after an `&`."""
    return f"&{_form_in_body(request)}&{request.query}"


def field_values(text: str, name: str) -> Iterable[str]:
    """Returns the different values of a field of a `form_text`, in order, still quoted.

    The other fields are passed over: a form may have millions.
    """
    return dict.fromkeys(_field(name).findall(text))


def last_value(request: Request, name: str) -> str:
    """Returns the last value of a field of the body's form, '' without one."""
    values = _field(name).findall(f"&{_form_in_body(request)}")
    return unquoted(values[-1]) if values else ""


@lru_cache
def _field(name: str) -> re.Pattern[str]:
    """Returns the pattern of a field after an `&`, any letter of whose name may be quoted."""
    letters = (f"(?:{letter}|(?i:%{ord(letter):02x}))" for letter in name)
    return re.compile(f"&{''.join(letters)}(?:=([^&]*)|(?=&|\\Z))")


def query_pairs(request: Request) -> list[tuple[str, str]]:
    """Returns the fields of a query-protocol request: those of its form, then of its query."""
    return _pairs_of(form_text(request))


def _form_in_body(request: Request) -> str:
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
            name, value = unquoted(name), unquoted(value)
        pairs.append((name, value))
    return pairs


def unquoted(text: str) -> str:
    """Returns a name or value of a form as it was before it was quoted."""
    return unquote(text.replace("+", " "), errors="surrogateescape")
