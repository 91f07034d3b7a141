"""The text fields of a browser's form upload, which stand before the file (S3's POST Object)."""

from __future__ import annotations

import re
from collections.abc import Mapping

#: Fields are looked for in so much of the body.
FIELDS_BYTES = 64 * 1024
_BOUNDARY = re.compile(r'boundary="?([^";]+)"?', re.I)
_NAME = re.compile(rb'^content-disposition:[^\r\n]*\bname="([^"\r\n]*)"', re.I | re.M)
_FILE_NAME = re.compile(rb'^content-disposition:[^\r\n]*\bfilename="([^"\r\n]*)"', re.I | re.M)
#: What stands for the file's name in a key (S3's POST Object).
_FILE_NAME_HERE = "${filename}"


def form_fields(headers: Mapping[str, str], body: bytes) -> dict[str, str]:
    """Returns the fields by lower-case name, up to `file`; nothing for bodies of other kinds.

    A key that asks for the file's name has it.

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
            told = _FILE_NAME.search(head)
            if told is not None and "key" in fields:
                # Some browsers tell the whole path.
                file_name = re.split(r"[/\\]", told[1].decode("utf-8", "replace"))[-1]
                fields["key"] = fields["key"].replace(_FILE_NAME_HERE, file_name)
            break
        fields[name] = value.removesuffix(b"\r\n").decode("utf-8", "replace")
    return fields
