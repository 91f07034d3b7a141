"""HTTP client for a running server's console port."""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson

from opentrail.core.errors import OpentrailError, TokenRefused, TryLater, UsageError
from opentrail.wire.pinning import direct_opener

_ANSWER_SECONDS = 120.0
#: HTTP statuses of a server, or of its load balancer, that may recover soon.
_LATER = (429, 502, 503, 504)
_CODES_OF_WRONG_USE = (
    "EventNotFound",
    "InvalidLookupAttributesException",
    "InvalidMaxResultsException",
    "InvalidParameterException",
    "InvalidTimeRangeException",
)
_READ = 256 * 1024

#: Called with the number of bytes, days or events that the server has read, and their total.
OnProgress = Callable[[int, int | None], None]


@dataclass(frozen=True, slots=True)
class Console:
    """The address and token of a running server."""

    url: str
    token: str
    #: Its AWS endpoint, if known.
    aws_endpoint: str | None = None
    #: PEM file with its certificate, if it speaks TLS and runs on this machine.
    certificate: Path | None = None

    def ask(
        self,
        path: str,
        query: Mapping[str, str | None] | None = None,
        body: Mapping[str, Any] | None = None,
        seconds: float = _ANSWER_SECONDS,
        on_progress: OnProgress | None = None,
    ) -> Any:
        """Returns the server's JSON answer, an object; a body makes it a POST.

        Raises:
            TryLater: the server is unreachable or overloaded.
            UsageError: the request is invalid.
            OpentrailError: the server refuses the request.
        """
        parts = None if body is None else [json.dumps(body).encode()]
        address = f"{path}?{_encode(query)}" if query else path
        return self._answer(address, parts, "application/json", seconds, on_progress)

    def send(
        self,
        path: str,
        parts: Sequence[bytes],
        seconds: float,
        on_progress: OnProgress = lambda _read, _total: None,
    ) -> Any:
        """Returns the JSON answer to a POST of bytes in parts; raises as `ask`."""
        return self._answer(path, parts, "application/octet-stream", seconds, on_progress)

    def _answer(
        self,
        path: str,
        parts: Sequence[bytes] | None,
        content_type: str,
        seconds: float,
        on_progress: OnProgress | None,
    ) -> Any:
        """Returns the JSON answer; calls `on_progress` with the server's progress."""
        accept = "application/x-ndjson" if on_progress else "*/*"
        with self._open(path, parts, content_type, seconds, accept) as answer:
            if not on_progress or "ndjson" not in answer.headers.get("Content-Type", ""):
                with _translate_errors(self.url):
                    return _document(answer.read(), self.url)
            for lines in _lines_of(answer, self.url):
                for line in lines:
                    if "error" in line:
                        raise _error_of(str(line["error"]), int(line["status"]), line.get("code"))
                    if "read" not in line:
                        return line
                    on_progress(int(line["read"]), line.get("total"))
        raise TryLater(f"the answer of {self.url} was cut")

    def health(self) -> dict[str, Any]:
        """Returns the answer of `/health`, also from an unhealthy server.

        Raises:
            TryLater: the server is unreachable.
            OpentrailError: the answer is not from an opentrail server.
        """
        try:
            answer = direct_opener(self.certificate).open(
                f"{self.url}/health", timeout=_ANSWER_SECONDS
            )
        except urllib.error.HTTPError as error:
            answer = error
        except (OSError, http.client.HTTPException) as error:
            raise TryLater(f"no server answers at {self.url}: {_reason(error)}") from error
        with answer, _translate_errors(self.url):
            document = _document(answer.read(), self.url)
        if "status" not in document:
            raise OpentrailError(f"{self.url} is not an opentrail server")
        return document

    @contextlib.contextmanager
    def lines(
        self, path: str, query: Mapping[str, str | None], seconds: float = _ANSWER_SECONDS
    ) -> Iterator[Iterator[list[Any]]]:
        """Yields the JSON lines of a streamed answer, in lists as they arrive.

        Raises:
            TryLater: as `ask`; also after `seconds` without data, or when the connection closes.
                An answer without an end marker may stop without an error.
            UsageError, OpentrailError: as `ask`.
        """
        with self._open(f"{path}?{_encode(query)}", None, "application/json", seconds) as answer:
            yield _lines_of(answer, self.url)

    def _open(
        self,
        path: str,
        parts: Sequence[bytes] | None,
        content_type: str,
        seconds: float,
        accept: str = "*/*",
    ) -> http.client.HTTPResponse:
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": content_type,
            "Accept": accept,
        }
        if parts is not None:
            headers["Content-Length"] = str(sum(len(part) for part in parts))
        request = urllib.request.Request(  # noqa: S310 - http to our own server
            f"{self.url}{path}", data=parts, headers=headers
        )
        with _translate_errors(self.url):
            opener = direct_opener(self.certificate)
            answer: http.client.HTTPResponse = opener.open(request, timeout=seconds)
        return answer


@contextlib.contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    try:
        yield
    except urllib.error.HTTPError as error:
        raise _refusal(error) from error
    except (OSError, http.client.HTTPException) as error:
        raise TryLater(f"no server answers at {url}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    """Returns the reason for a failed connection, in words."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return "it took too long"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or "the connection was closed"


def _lines_of(answer: http.client.HTTPResponse, url: str) -> Iterator[list[Any]]:
    rest = b""
    while True:
        with _translate_errors(url):
            part = answer.read1(_READ)
        if not part:
            break
        rest += part
        if b"\n" in part:
            *lines, rest = rest.split(b"\n")
            yield [_document(line, url) for line in lines]
    if rest:
        raise TryLater(f"the answer of {url} was cut in the middle of a line")


def _encode(query: Mapping[str, str | None]) -> str:
    parameters = {name: value for name, value in query.items() if value is not None}
    return urllib.parse.urlencode(parameters)


def ask(
    options: argparse.Namespace,
    path: str,
    query: Mapping[str, str | None],
    body: Mapping[str, Any] | None = None,
) -> Any:
    """Returns the server's JSON answer, an object; a body makes it a POST.

    Raises:
        UsageError: no server is found, or the request is invalid.
        OpentrailError: the server is unreachable or refuses the request.
    """
    return find(options).ask(path, query, body)


def _document(body: bytes, console: str) -> dict[str, Any]:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise OpentrailError(_foreign(console)) from error
    if not isinstance(document, dict):
        raise OpentrailError(_foreign(console))
    return document


def _foreign(url: str) -> str:
    hint = "if it is the AWS endpoint, use the console's address (usually port 4748)"
    return f"{url} is not an opentrail server; {hint}"


def data_dir_of(options: argparse.Namespace) -> Path:
    """Returns the data directory from `--data-dir`, the environment, or the default."""
    return Path(options.data_dir or os.environ.get("OPENTRAIL_DATA_DIR") or "opentrail-data")


def find(options: argparse.Namespace) -> Console:
    """Returns the server of `--endpoint`, or of the given or default data directory.

    The token comes from the data directory; with `--endpoint`, `OPENTRAIL_TOKEN` overrides it.

    Raises:
        UsageError: no server is found.
    """
    own_token = os.environ.get("OPENTRAIL_TOKEN")
    if options.endpoint and own_token:
        return Console(_console_url(options.endpoint), own_token)
    folder = data_dir_of(options)
    try:
        described = json.loads((folder / "server.json").read_text())
        console, token = str(described["console"]), str(described["token"])
        aws, certificate = described.get("endpoint"), described.get("certificate")
    except (OSError, ValueError, TypeError, KeyError) as error:
        if options.endpoint:
            raise UsageError(
                f"--endpoint {options.endpoint} needs a token: set OPENTRAIL_TOKEN to a token "
                "of 'opentrail users token add' or of server.json, or name the server's data "
                f"directory with --data-dir ({folder} has no token)"
            ) from error
        raise UsageError(
            f"no server runs on data directory {folder}; name its folder with --data-dir DIR, or "
            "start one: 'opentrail sandbox' or 'opentrail serve'"
        ) from error
    url = _console_url(options.endpoint or console)
    if options.endpoint and isinstance(aws, str) and url == aws.rstrip("/"):
        raise UsageError(f"{url} is the AWS endpoint; the console's address is {console}")
    file = Path(certificate) if isinstance(certificate, str) else None
    return Console(url, token, aws if isinstance(aws, str) else None, file)


def find_as(options: argparse.Namespace, token: str) -> Console:
    """Returns the server that `find` returns, with a user's token.

    Raises:
        UsageError: no server is found.
    """
    if options.endpoint:
        return Console(_console_url(options.endpoint), token)
    return replace(find(options), token=token)


def _console_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise UsageError(f"--endpoint must be a URL like http://127.0.0.1:4748, not {text!r}")
    return text.rstrip("/")


def _refusal(error: urllib.error.HTTPError) -> OpentrailError:
    body: Any = None
    with contextlib.suppress(ValueError):
        body = json.load(error)
    reason = body.get("error") if isinstance(body, dict) else None
    if not isinstance(reason, str):
        reason = f"the server answered with HTTP status {error.code}"
        if any(name.lower().startswith("x-amz") for name in error.headers):
            reason = _foreign(error.url)
    return _error_of(reason, error.code, body.get("code") if isinstance(body, dict) else None)


def _error_of(reason: str, status: int, code: object = None) -> OpentrailError:
    if status in _LATER:
        return TryLater(reason)
    if status == http.HTTPStatus.UNAUTHORIZED:
        return TokenRefused(reason)
    return UsageError(reason) if code in _CODES_OF_WRONG_USE else OpentrailError(reason)
