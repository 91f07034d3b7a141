"""Requests with a deadline to addresses chosen by the operator: webhooks and collectors."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import hmac
import http.client
import ipaddress
import logging
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import orjson

from opentrail.core.errors import ServiceError
from opentrail.core.version import __version__

#: Seconds of a whole request.
_REQUEST_SECONDS = 30.0


@contextlib.contextmanager
def deadline(opened: socket.socket) -> Iterator[None]:
    """Shuts a connection down after 30 seconds, even in the middle of a response."""
    same = opened.dup()  # TLS takes the socket itself

    def end() -> None:
        with contextlib.suppress(OSError):
            same.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(_REQUEST_SECONDS, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        same.close()


def connections_until(
    end: contextlib.ExitStack,
) -> tuple[type[http.client.HTTPConnection], type[http.client.HTTPSConnection]]:
    """Returns connections, by HTTP and by HTTPS, with a deadline until `end` is closed."""

    class Connection(http.client.HTTPConnection):
        def connect(self) -> None:
            super().connect()
            end.enter_context(deadline(self.sock))

    class TlsConnection(http.client.HTTPSConnection, Connection):
        """Its deadline begins before TLS: `HTTPSConnection` connects by `Connection`."""

    return Connection, TlsConnection


log = logging.getLogger(__name__)

#: Seconds of silence.
_SILENCE_SECONDS = 10.0
_MAX_OTLP_ANSWER_BYTES = 65_536
#: Statuses after which a retry may succeed (OTLP: "Retryable response codes").
_LATER = frozenset({429, 502, 503, 504})
#: Maximum seconds to honour Retry-After; then the follower retries.
_MAX_PAUSE = 30.0
#: Default path of a collector's logs.
_PATH = "/v1/logs"
_COLLECTOR_FAILED = "CollectorFailed"


class OtlpCollector:
    """A `LogCollector`.

    Args:
        url: the collector, such as `http://127.0.0.1:4318`; `/v1/logs` is added if there is no
            path.
        headers: sent with each request, such as a token.
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
        """Returns the number of rejected records once the collector has answered."""
        count = sum(
            len(scope["logRecords"])
            for resource in logs["resourceLogs"]
            for scope in resource["scopeLogs"]
        )
        status, pause, content = await asyncio.to_thread(self._post, logs)
        if status in _LATER:
            await asyncio.sleep(pause)
            raise ServiceError(_COLLECTOR_FAILED, f"{self._name} answers with status {status}")
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
                connection = kind(str(parts.hostname), parts.port, timeout=_SILENCE_SECONDS)
                end.callback(connection.close)
                connection.request("POST", parts.path, body, self._headers)
                answer = connection.getresponse()
                content = answer.read(_MAX_OTLP_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(
                _COLLECTOR_FAILED, f"{self._name} does not answer: {error!r}"
            ) from error
        pause = str(answer.headers.get("Retry-After", ""))
        seconds = min(_MAX_PAUSE, float(pause)) if pause.isdecimal() else 0.0
        return answer.status, seconds, content.decode(errors="replace")


def _rejected(content: str) -> int:
    """Returns the number of rejected records in an answer."""
    try:
        partial = orjson.loads(content).get("partialSuccess") or {}
        return max(0, int(partial.get("rejectedLogRecords", 0)))
    except (ValueError, TypeError, AttributeError, OverflowError):
        return 0


Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_MAX_ANSWER_BYTES = 4_096
#: Statuses that refuse this content; after all others a retry may succeed.
_REFUSED = frozenset({400, 413, 415, 422})
_FAILED = "WebhookFailed"
#: IPv6 addresses that a gateway translates to IPv4 (RFC 6052).
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")
#: The IPv6 addresses of the internet; others may lead to a private network through a gateway.
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
#: Networks outside the internet: IANA's registries of special-purpose addresses (RFC 6890) and
#: multicast. Python's own list differs between its versions.
_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
    )
)


class HttpWebhook:
    """A `Webhook`.

    Resolves the host once for each request, and sends the request to a checked address: on the
    internet, or in the networks. Follows no redirects.

    Args:
        url: the target of requests.
        secret: signs requests, if set.
        networks: allowed private networks, such as `10.0.0.0/8`.
    """

    def __init__(self, url: str, secret: str | None, networks: Sequence[str] = ()) -> None:
        self._parts = urlsplit(url)
        self._secret = secret
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self._tls = ssl.create_default_context() if self._parts.scheme == "https" else None

    async def send(self, event_id: str, body: bytes) -> bool:
        """Returns once the webhook has answered: whether it has accepted the event."""
        status = await asyncio.to_thread(self._post, event_id, body)
        if status // 100 == 2:
            return True
        if status in _REFUSED:
            log.error("the webhook refuses an event", extra={"status": status, "event": event_id})
            return False
        raise ServiceError(_FAILED, f"{self._parts.hostname} answers with status {status}")

    def _post(self, event_id: str, body: bytes) -> int:
        """Returns the status of the answer."""
        host = str(self._parts.hostname)
        port = self._parts.port or (443 if self._tls else 80)
        path = (self._parts.path or "/") + (f"?{self._parts.query}" if self._parts.query else "")
        connection, end = http.client.HTTPConnection(host, port), contextlib.ExitStack()
        try:
            opened = socket.create_connection((self._address(host, port), port), _SILENCE_SECONDS)
            connection.sock = opened
            end.enter_context(deadline(opened))
            if self._tls is not None:
                connection.sock = self._tls.wrap_socket(opened, server_hostname=host)
            connection.request("POST", path, body, self._headers(event_id, body))
            answer = connection.getresponse()
            answer.read(_MAX_ANSWER_BYTES)
        except (OSError, http.client.HTTPException) as error:
            raise ServiceError(_FAILED, f"{host} does not answer: {error!r}") from error
        finally:
            end.close()
            connection.close()
        return answer.status

    def _address(self, host: str, port: int) -> str:
        """Returns an allowed address of a host.

        Raises:
            ServiceError: no address is allowed.
            OSError: the host has no address.
        """
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        text = str(found[0][4][0])
        address = _reached(ipaddress.ip_address(text.partition("%")[0]))
        is_public = not any(address in network for network in _SPECIAL)
        if address.version == 6:
            is_public = is_public and address in _GLOBAL_UNICAST
        if not is_public and not any(address in network for network in self._networks):
            message = (
                f"{host} is {address}, which is not an address of the internet: allow it with "
                "networks in [webhook]"
            )
            raise ServiceError(_FAILED, message)
        return text

    def _headers(self, event_id: str, body: bytes) -> dict[str, str]:
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"opentrail/{__version__}",
            "X-Opentrail-Event-Id": event_id,
        }
        if self._secret is not None:
            moment = str(int(time.time()))
            signed = f"{moment}.".encode() + body
            digest = hmac.new(self._secret.encode(), signed, hashlib.sha256).hexdigest()
            headers["X-Opentrail-Timestamp"] = moment
            headers["X-Opentrail-Signature"] = f"sha256={digest}"
        return headers


def _reached(address: Address) -> Address:
    """Returns the IPv4 address behind an IPv6 address, if any.

    >>> _reached(ipaddress.ip_address("::ffff:10.0.0.1"))
    IPv4Address('10.0.0.1')
    """
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _TRANSLATED:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address
