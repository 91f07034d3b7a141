"""Records the calls of a boto3 session in its process.

For real AWS, whose signatures cover the host name, and for moto's in-process mocks:

    import boto3
    from opentrail.capture.in_process.hooks import BotocoreHook
    from opentrail.capture.in_process.shipping import ServerShipper

    session = boto3.Session()
    BotocoreHook(ServerShipper.of_data_dir("opentrail-data")).attach(session)

Each attempt has a record, as on AWS.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.handlers
from botocore.awsrequest import AWSPreparedRequest

from opentrail.capture.in_process.shipping import Shipper, ship_together
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.exchange import Exchange, Failure
from opentrail.capture.record.s3_form import body_is_parameters
from opentrail.core.event import new_event_id
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity, account_of_key, unknown
from opentrail.wire.message import Request, Response
from opentrail.wire.routing import Router
from opentrail.wire.service_models import ServiceCatalog
from opentrail.wire.sigv4 import read_credential

_ID = "opentrail-hook"
#: The query of a URL in an error message.
_QUERY = re.compile(r"(?<=[\w/.])\?[^\s\"']+")


@dataclass(slots=True)
class _Attempt:
    started_at: datetime
    request: AWSPreparedRequest
    answer: Mapping[str, Any] | None = None


class BotocoreHook:
    """Records calls of the sessions it is attached to.

    Args:
        shipper: sends the records.
        source_ip: `sourceIPAddress` of the records; the hook cannot know the public address.
    """

    def __init__(self, shipper: Shipper, source_ip: str = "127.0.0.1") -> None:
        self._shipper = shipper
        self._source_ip = source_ip
        self._router = Router(ServiceCatalog())
        self._assembler = Assembler(self._identity)
        self._attempt: ContextVar[_Attempt | None] = ContextVar("attempt", default=None)

    def attach(self, session: Any) -> None:
        """Records the clients that a boto3 or botocore session makes after this call."""
        events = getattr(session, "events", None) or session.get_component("event_emitter")
        events.register_first("before-send", self._before_send, unique_id=f"{_ID}-send")
        for event, handler in self._later_handlers():
            events.register(event, handler, unique_id=f"{_ID}-{event}")

    def attach_everywhere(self) -> None:
        """Records every session made in this process after this call (for moto's `mock_aws`)."""
        botocore.handlers.BUILTIN_HANDLERS.insert(0, ("before-send", self._before_send))
        botocore.handlers.BUILTIN_HANDLERS.extend(self._later_handlers())

    def detach_everywhere(self) -> None:
        """Undoes `attach_everywhere`; sessions created since then are still recorded."""
        for handler in (("before-send", self._before_send), *self._later_handlers()):
            if handler in botocore.handlers.BUILTIN_HANDLERS:
                botocore.handlers.BUILTIN_HANDLERS.remove(handler)

    def _later_handlers(self) -> tuple[tuple[str, Callable[..., None]], ...]:
        """Returns the handlers of botocore's events after a request is sent."""
        return (
            ("before-parse", self._keep_answer),
            ("response-received", self._record_attempt),
            ("after-call-error", self._record_failure),
        )

    def _before_send(self, request: AWSPreparedRequest, **_: Any) -> None:
        self._attempt.set(_Attempt(datetime.now(UTC), request))

    def _keep_answer(self, response_dict: Mapping[str, Any], **_: Any) -> None:
        attempt = self._attempt.get()
        if attempt is not None:
            attempt.answer = response_dict

    def _record_failure(self, exception: Exception, **_: Any) -> None:
        """Records a call whose answer botocore could not parse; no other event reports it."""
        attempt = self._attempt.get()
        if attempt is not None:
            self._record_attempt(attempt.answer, exception)

    def _record_attempt(
        self, response_dict: Mapping[str, Any] | None, exception: Exception | None, **_: Any
    ) -> None:
        attempt = self._attempt.get()
        self._attempt.set(None)
        if attempt is None:
            return
        exchange = self._exchange(attempt)
        if response_dict is not None:
            exchange.response = _response(response_dict)
            exchange.bytes_out = _length(exchange.response.body, exchange.response.headers)
        else:
            name = type(exception).__name__
            exchange.failure = Failure(name, f"{name}: {_without_queries(exception)}")
        assembled = self._assembler.assemble(exchange)
        ship_together(self._shipper, [entry.record for entry in (assembled.entry, *assembled.more)])

    def _identity(self, access_key_id: str) -> Identity:
        """Returns the identity behind a key, from the server if known, else from the key id."""
        ask = getattr(self._shipper, "identity", None)
        identity: Identity | None = ask(access_key_id) if ask is not None else None
        return identity or unknown(account_of_key(access_key_id) or DEFAULT_ACCOUNT, access_key_id)

    def _exchange(self, attempt: _Attempt) -> Exchange:
        request = attempt.request
        url = urlsplit(request.url)
        headers = {_text(name).lower(): _text(value) for name, value in request.headers.items()}
        headers.setdefault("host", url.netloc)
        body = request.body if isinstance(request.body, bytes) else b""
        body = request.body.encode() if isinstance(request.body, str) else body
        is_whole = request.body is None or isinstance(request.body, bytes | str)
        head = Request(request.method, url.path or "/", url.query, headers, body, is_whole)
        credential = read_credential(head)
        route = self._router.identify(head, credential)
        is_s3 = route.service is not None and route.service.name == "s3"
        if is_s3 and not body_is_parameters(route):
            head = Request(head.method, head.path, head.query, headers, b"", False)
        return Exchange(
            event_id=new_event_id(),
            started_at=attempt.started_at,
            completed_at=datetime.now(UTC),
            source_ip=self._source_ip,
            request=head,
            credential=credential,
            route=route,
            bytes_in=_length(body, headers),
            origin="hook",
        )


def _without_queries(exception: Exception | None) -> str:
    """Returns an error message without the queries of URLs, which may hold secrets.

    >>> _without_queries(OSError('no connection to "https://host/a?key=secret"'))
    'no connection to "https://host/a?…"'
    """
    return _QUERY.sub("?…", str(exception))


def _length(body: bytes, headers: Mapping[str, str]) -> int:
    """Returns a body's length; for a stream it is in the head."""
    announced = headers.get("content-length", "")
    return len(body) if body or not announced.isdigit() else int(announced)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _response(answer: Mapping[str, Any]) -> Response:
    headers = {str(name).lower(): str(value) for name, value in answer["headers"].items()}
    body = answer.get("body")
    if isinstance(body, bytes):
        return Response(int(answer["status_code"]), headers, body)
    return Response(int(answer["status_code"]), headers, b"", False)
