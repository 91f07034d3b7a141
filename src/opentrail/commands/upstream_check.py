"""Finds out at the start what answers behind each upstream, and what that means for signatures."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from opentrail.core.text import printable
from opentrail.settings import Settings

_SECONDS = 2.0
_MAX_ANSWER_BYTES = 65_536
_AWS = re.compile(r"\.(amazonaws\.com(\.cn)?|api\.aws)$")
_KEPT = "it verifies signatures; the Host header of clients is passed on, so theirs stay valid"
_NONE = "it verifies no signatures"
#: What each kind of upstream does with signatures.
MEANINGS = {
    "AWS": "it accepts only signatures made for its own host names: set resign = true and "
    "credentials for it in the file given by --config",
    "moto": _NONE,
    "LocalStack": f"{_NONE}, unless it is set up to",
    "SeaweedFS": _KEPT,
    "Ceph": _KEPT,
    "MinIO": _KEPT,
}
_SERVERS = (("SeaweedFS", "SeaweedFS"), ("Ceph", "Ceph"), ("MinIO", "MinIO"), ("AmazonS3", "AWS"))


@dataclass(frozen=True, slots=True)
class _Answer:
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    is_good: bool = False
    failure: str | None = None


Get = Callable[[str], _Answer]


class UpstreamCheck:
    """Asks every upstream in a thread; `lines` waits for the answers.

    Args:
        settings: name the upstreams, and the authorities of their certificates.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        urls = dict.fromkeys(settings.upstream.values())
        threads = ThreadPoolExecutor(max(1, min(8, len(urls))), "upstream-check")
        self._found: dict[str, Future[str]] = {
            url: threads.submit(self._describe, url) for url in urls
        }
        threads.shutdown(wait=False)

    def lines(self) -> list[str]:
        """Returns a line for each upstream: what it is, and what it does with signatures."""
        lines = []
        for service, url in sorted(self._settings.upstream.items()):
            access = self._settings.access.get(service)
            answer = self._found[url].result()
            if access is not None and access.resign and answer.startswith("AWS"):
                answer = "AWS; calls are signed again for it"
            lines.append(f"{service}={url}  {answer}" if service else f"{url}  {answer}")
        return lines

    def _describe(self, url: str) -> str:
        if _AWS.search(urlsplit(url).hostname or ""):
            return f"AWS; {MEANINGS['AWS']}"
        answer = self._get(url, "/")
        if answer.failure is not None:
            return f"nothing answers yet ({printable(answer.failure)}); until then calls get 502"
        name = _name_of(answer, lambda path: self._get(url, path))
        if name is None:
            server = answer.headers.get("server")
            return f"answers ({printable(server)})" if server else "answers"
        return f"{name}; {MEANINGS[name]}"

    def _get(self, url: str, path: str) -> _Answer:
        """Returns the answer to a GET without credentials."""
        handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
        try:
            if url.startswith("https:"):
                context = ssl.create_default_context(cafile=self._settings.upstream_ca)
                handlers.append(urllib.request.HTTPSHandler(context=context))
            opener = urllib.request.build_opener(*handlers)
            try:
                response = opener.open(url.rstrip("/") + path, timeout=_SECONDS)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return _Answer(headers, response.read(_MAX_ANSWER_BYTES), response.status == 200)
        except urllib.error.URLError as error:
            return _Answer(failure=str(getattr(error.reason, "strerror", None) or error.reason))
        except (OSError, http.client.HTTPException, ValueError) as error:
            return _Answer(failure=str(error) or type(error).__name__)


def _name_of(answer: _Answer, get: Get) -> str | None:
    """Returns the name of what answered, if it is known."""
    server = answer.headers.get("server", "")
    for begin, name in _SERVERS:
        if server.startswith(begin):
            return name
    if answer.headers.get("x-amz-request-id", "").startswith("tx0"):
        return "Ceph"
    if _object(get("/moto-api/data.json")) is not None:
        return "moto"
    health = _object(get("/_localstack/health"))
    return "LocalStack" if health is not None and "services" in health else None


def _object(answer: _Answer) -> Mapping[str, object] | None:
    try:
        document = json.loads(answer.body) if answer.is_good else None
    except ValueError:
        return None
    return document if isinstance(document, dict) else None
