"""A collector that takes logs over OTLP/HTTP, as JSON."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.client
import logging
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import orjson

from opentrail.adapters.deadline import connections_until
from opentrail.core.errors import ServiceError

log = logging.getLogger(__name__)

#: Seconds of silence.
_SECONDS = 10.0
_MAX_ANSWER_BYTES = 65_536
#: Statuses after which the same request may be accepted later (OTLP: "Retryable response codes").
_LATER = frozenset({429, 502, 503, 504})
#: Maximum seconds that an answer's Retry-After is waited for; then the follower tries again.
_MAX_PAUSE = 30.0
#: Path of a collector's logs, if the URL has none.
_PATH = "/v1/logs"
_FAILED = "CollectorFailed"


class OtlpCollector:
    """A `LogCollector`.

    Args:
        url: the collector, such as `http://127.0.0.1:4318`; `/v1/logs` is added if there is no
            path.
        headers: are sent with each request, such as a token.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self.url = url.rstrip("/") + ("" if urlsplit(url).path.strip("/") else _PATH)
        parts = urlsplit(self.url)
        #: The URL in messages; a path may hold a token.
        self._name = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
        self._headers = {
            **headers,
            "Content-Type": "application/json",
            "Content-Encoding": "gzip",
        }

    async def send(self, logs: dict[str, Any]) -> int:
        """Returns once the collector has answered; the result is how many records it rejected."""
        count = sum(
            len(scope["logRecords"])
            for resource in logs["resourceLogs"]
            for scope in resource["scopeLogs"]
        )
        status, pause, content = await asyncio.to_thread(self._post, logs)
        if status in _LATER:
            await asyncio.sleep(pause)
            raise ServiceError(_FAILED, f"{self._name} answers with status {status}")
        if status // 100 != 2:
            log.error(
                "the collector refuses logs", extra={"status": status, "answer": content[:200]}
            )
            return count
        return min(count, _rejected(content))

    def _post(self, logs: dict[str, Any]) -> tuple[int, float, str]:
        """Returns the status, seconds to wait, and the content of the answer."""
        body = gzip.compress(orjson.dumps(logs), 1)
        parts = urlsplit(self.url)
        try:
            with contextlib.ExitStack() as end:
                by_http, by_https = connections_until(end)
                kind = by_https if parts.scheme == "https" else by_http
                connection = kind(str(parts.hostname), parts.port, timeout=_SECONDS)
                end.callback(connection.close)
                connection.request("POST", parts.path, body, self._headers)
                answer = connection.getresponse()
                content = answer.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(_FAILED, f"{self._name} does not answer: {error!r}") from error
        pause = str(answer.headers.get("Retry-After", ""))
        seconds = min(_MAX_PAUSE, float(pause)) if pause.isdecimal() else 0.0
        return answer.status, seconds, content.decode(errors="replace")


def _rejected(content: str) -> int:
    """Returns how many records an answer says were rejected."""
    try:
        partial = orjson.loads(content).get("partialSuccess") or {}
        return max(0, int(partial.get("rejectedLogRecords", 0)))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return 0
