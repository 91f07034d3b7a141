"""Fields of forms: of the query protocols, and of a browser's upload that precede the file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
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
    """Returns the fields of a query-protocol request: first the form's, then the query's."""
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
    """Returns a form's name or value without its quoting."""
    return unquote(text.replace("+", " "), errors="surrogateescape")


#: Bytes of the body that may hold fields.
FIELDS_BYTES = 64 * 1024
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.I)
_NAME = re.compile(rb'^content-disposition:[^\r\n]*\bname="([^"\r\n]*)"', re.I | re.M)
_FILE_NAME = re.compile(rb'^content-disposition:[^\r\n]*\bfilename="([^"\r\n]*)"', re.I | re.M)
#: Placeholder for the file's name in a key.
_FILE_NAME_HERE = "${filename}"


def form_fields(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Returns the fields by lowercase name, up to `file`; nothing for bodies of other kinds.

    The file's name is filled into the key.

    Args:
        headers: headers of the request, lowercase names.
        body: its body, or as much of it as there is.
    """
    content_type = headers.get("content-type", "")
    match = _BOUNDARY.search(content_type)
    if "multipart/form-data" not in content_type.lower() or match is None:
        return {}
    fields: dict[str, str] = {}
    for part in body[:FIELDS_BYTES].split(b"--" + match[1].encode("latin-1", "replace"))[1:]:
        head, blank, value = part.partition(b"\r\n\r\n")
        name_match = _NAME.search(head)
        if not blank or name_match is None:
            continue
        name = name_match[1].decode("utf-8", "replace").lower()
        if name == "file":
            file_match = _FILE_NAME.search(head)
            if file_match is not None and "key" in fields:
                # Some browsers send the whole path.
                file_name = re.split(r"[/\\]", file_match[1].decode("utf-8", "replace"))[-1]
                fields["key"] = fields["key"].replace(_FILE_NAME_HERE, file_name)
            break
        fields[name] = value.removesuffix(b"\r\n").decode("utf-8", "replace")
    return fields
