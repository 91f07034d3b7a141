"""The console's pages: files that were built with the package."""

from __future__ import annotations

import mimetypes
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response

FOLDER = Path(__file__).parents[2] / "console_static"
#: Encodings of files that are built beside them, best first.
_ENCODINGS = {"br": ".br", "gzip": ".gz"}
_FOREVER = "public, max-age=31536000, immutable"
_NOT_BUILT = (
    "The web console is not part of this installation: it was built without Node and npm.\n"
    "Install opentrail from a wheel, or install Node and run `pip install .` again.\n"
    "Everything else works: the endpoint, the CloudTrail API and the command line.\n"
)


class Assets:
    """The files of a folder; paths without a dot are pages, which are all `index.html`."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files = {
            str(file.relative_to(folder)): file
            for file in folder.rglob("*")
            if file.is_file() and file.suffix not in _ENCODINGS.values()
        }

    async def answer(self, request: Request) -> Response:
        """Returns the file of a path."""
        name = request.path_params.get("path", "")
        if "." not in name.rpartition("/")[2]:
            name = "index.html"
        file = self._files.get(name)
        if file is None and name == "index.html":
            return Response(_NOT_BUILT, 503, media_type="text/plain")
        if file is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        encoding, body = _body(file, request.headers.get("accept-encoding", ""))
        headers = {"Vary": "Accept-Encoding"}
        headers["Cache-Control"] = _FOREVER if name.startswith("assets/") else "no-cache"
        if encoding:
            headers["Content-Encoding"] = encoding
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(body, 200, headers, kind)


def _body(file: Path, accepted: str) -> tuple[str | None, bytes]:
    """Returns the best encoding that a client accepts, and the file's bytes in it."""
    offered = {part.partition(";")[0].strip() for part in accepted.split(",")}
    for encoding, suffix in _ENCODINGS.items():
        encoded = file.with_name(file.name + suffix)
        if encoding in offered and encoded.is_file():
            return encoding, encoded.read_bytes()
    return None, file.read_bytes()
