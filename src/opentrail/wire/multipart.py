"""The text fields of a browser's form upload, which precede the file (S3's POST Object)."""

from __future__ import annotations

import re
from collections.abc import Mapping

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
