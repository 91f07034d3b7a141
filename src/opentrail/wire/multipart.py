"""The text fields of a browser's form upload, which stand before the file (S3's POST Object)."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Fields are looked for in so much of the body.
FIELDS_BYTES = 64 * 1024
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.I)
_NAME = re.compile(rb'^content-disposition:[^\r\n]*\bname="([^"\r\n]*)"', re.I | re.M)


def form_fields(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Returns the fields by lower-case name, up to `file`; nothing for bodies of other kinds.

    Args:
        headers: headers of the request, lower-case names.
        body: its body, or as much of it as there is.
    """
    content_type = headers.get("content-type", "")
    match = _BOUNDARY.search(content_type)
    if "multipart/form-data" not in content_type.lower() or match is None:
        return {}
    fields: dict[str, str] = {}
    for part in body[:FIELDS_BYTES].split(b"--" + match[1].encode("latin-1", "replace"))[1:]:
        head, blank, value = part.partition(b"\r\n\r\n")
        named = _NAME.search(head)
        if not blank or named is None:
            continue
        name = named[1].decode("utf-8", "replace").lower()
        if name == "file":
            break
        fields[name] = value.removesuffix(b"\r\n").decode("utf-8", "replace")
    return fields
