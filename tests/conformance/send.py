"""Sends cases: botocore's clients make the bytes, our sockets send them.

botocore serialises, signs and completes each request as usual. Just before it would send, this
module takes the bytes and sends them over a few kept connections, many calls at a time.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any
from urllib.parse import urlsplit

from botocore import xform_name
from botocore.awsrequest import AWSPreparedRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.session import Session
from botocore.tokens import FrozenAuthToken

from tests.conformance.generate import LOADER, Case
from tests.live.processes import is_throttled

_CONNECTIONS = 12
_PATIENCE = 30.0
#: Maximum calls of a case; those before the last were throttled.
_ATTEMPTS = 10
#: Services with bearer tokens, which botocore makes only for https.
_BEARER = ("account-access-runtime", "codecatalyst")


#: Signed with SigV4A, which needs the awscrt package; SigV4 names the same things.
_SIGNATURES = {"cloudfront-keyvaluestore": "v4", "events": "v4"}


class _Taken(Exception):  # noqa: N818 - no error
    """Ends a botocore call once its request is complete."""

    def __init__(self, request: AWSPreparedRequest) -> None:
        super().__init__()
        self.request = request


class _Token:
    """A bearer token for services without signatures."""

    def load_token(self, **_: Any) -> Any:
        return self

    def get_frozen_token(self) -> FrozenAuthToken:
        return FrozenAuthToken("bearer-token-of-tests")


class Sender:
    """Makes the bytes of calls to one endpoint."""

    def __init__(self, endpoint_url: str, access_key: str, secret_key: str) -> None:
        self._url = endpoint_url
        self._keys = {"aws_access_key_id": access_key, "aws_secret_access_key": secret_key}
        self._client = cache(self._new_client)

    def bytes_of(self, case: Case) -> bytes:
        """Returns a case's request in botocore's form."""
        client = self._client(case.service, case.protocol, case.region)
        method = getattr(client, xform_name(case.operation))
        try:
            method(**case.params)
        except _Taken as taken:
            taken.request.headers["User-Agent"] = case.user_agent
            return _raw(taken.request)
        raise AssertionError(f"{case} got an answer from botocore")

    def _new_client(self, service: str, protocol: str, region: str) -> BaseClient:
        config = Config(
            parameter_validation=False,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
            inject_host_prefix=False,
            request_checksum_calculation="when_required",
            signature_version=_SIGNATURES.get(service),
            proxies={},
        )
        url = self._url
        if service in _BEARER:
            url = url.replace("http:", "https:")
        with _Spoken(service, protocol):
            client = _session().create_client(
                service, region, endpoint_url=url, config=config, **self._keys
            )
        client.meta.events.register_first("before-send", _take)
        return client


class _Spoken:
    """Makes botocore use one of a service's protocols, whichever it prefers."""

    def __init__(self, service: str, protocol: str) -> None:
        self._metadata = LOADER.load_service_model(service, "service-2")["metadata"]
        self._wanted = protocol
        self._listed = self._metadata.get("protocols")

    def __enter__(self) -> None:
        if self._listed:
            self._metadata["protocols"] = [self._wanted]

    def __exit__(self, *_: object) -> None:
        if self._listed:
            self._metadata["protocols"] = self._listed


def _take(request: AWSPreparedRequest, **_: object) -> None:
    raise _Taken(request)


@cache
def _session() -> Session:
    session = Session()
    session.register_component("data_loader", LOADER)
    session.register_component("token_provider", _Token())
    return session


def _raw(request: AWSPreparedRequest) -> bytes:
    """Returns the request in http.client's form."""
    url = urlsplit(request.url)
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    body = request.body
    if hasattr(body, "read"):
        body = body.read()
    body = body.encode() if isinstance(body, str) else bytes(body or b"")
    headers = {name: _bytes(value) for name, value in request.headers.items()}
    known = {name.lower() for name in headers}
    if "host" not in known:
        headers["Host"] = url.netloc.encode()
    if "accept-encoding" not in known:
        headers["Accept-Encoding"] = b"identity"
    headers.pop("Expect", None)
    if "transfer-encoding" in known:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"
    elif "content-length" not in known and (body or request.method in ("POST", "PUT", "PATCH")):
        headers["Content-Length"] = b"%d" % len(body)
    lines = [f"{request.method} {target} HTTP/1.1".encode("ascii")]
    lines += [name.encode("latin-1") + b": " + value for name, value in headers.items()]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8")


@dataclass(slots=True)
class Sent:
    """A sent case with its bytes, or the reason why it could not be sent."""

    case: Case
    raw: bytes
    problem: str | None = None

    @property
    def host(self) -> str:
        """Returns the Host header."""
        found = re.search(rb"\r\nhost: *([^\r\n]*)", self.raw, re.I)
        return found[1].decode() if found else ""

    @property
    def scope(self) -> list[str]:
        """Returns date, Region and service of the signature; nothing if there is none."""
        _, found, rest = self.raw.partition(b"Credential=")
        return rest.partition(b",")[0].decode().split("/")[1:4] if found else []


def send_all(sender: Sender, cases: Iterable[Case], port: int) -> list[Sent]:
    """Sends every case once and reads the whole answers, in any order."""
    return asyncio.run(_send_all(sender, cases, port))


async def _send_all(sender: Sender, cases: Iterable[Case], port: int) -> list[Sent]:
    sent: list[Sent] = []
    queue: asyncio.Queue[Sent | None] = asyncio.Queue(maxsize=4 * _CONNECTIONS)
    workers = [asyncio.create_task(_work(queue, port)) for _ in range(_CONNECTIONS)]
    for case in cases:
        try:
            one = Sent(case, sender.bytes_of(case))
        except Exception as error:  # noqa: BLE001 - reported with the case
            sent.append(Sent(case, b"", f"botocore: {type(error).__name__}: {error}"))
            continue
        sent.append(one)
        await queue.put(one)
    for _ in workers:
        await queue.put(None)
    await asyncio.gather(*workers)
    return sent


async def _work(queue: asyncio.Queue[Sent | None], port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    while (one := await queue.get()) is not None:
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(_PATIENCE):
                    head, body = await _one_call(one.raw, reader, writer)
            except (OSError, TimeoutError, asyncio.IncompleteReadError) as error:
                one.problem, head, body = f"socket: {error!r}", b"", b""
            if not head or b"\r\nconnection: close" in head:
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
            # An answer to HEAD has no body with the reason for a retry.
            asked_again = one.raw.startswith(b"HEAD ") and b"\r\nretry-after: 1\r\n" in head
            if not asked_again and not is_throttled(body):
                break
            await asyncio.sleep(1)
    writer.close()


async def _one_call(
    raw: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> tuple[bytes, bytes]:
    """Makes one call, and returns the head of its answer in lower case, and its body."""
    writer.write(raw)
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, has_length, rest = head.partition(b"\r\ncontent-length:")
    if raw.startswith(b"HEAD "):
        return head, b""
    if has_length:
        return head, await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    body = b""
    if b"\r\ntransfer-encoding:" in head:
        while size := int((await reader.readline()).partition(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:size]
        await reader.readline()
    return head, body
