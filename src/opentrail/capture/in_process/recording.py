"""Requests of an application, and their records."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from opentrail.capture.in_process.shipping import Shipper
from opentrail.capture.record.assemble import Assembler
from opentrail.capture.record.exchange import Described, Exchange, Failure
from opentrail.capture.redaction.embedded import redact, search_limit
from opentrail.capture.redaction.redact import by_name
from opentrail.core.errors import UsageError
from opentrail.core.event import is_account, is_region, new_event_id
from opentrail.core.identity import DEFAULT_ACCOUNT, unknown
from opentrail.core.trail import GLOBAL_REGION
from opentrail.wire.message import Request, Response
from opentrail.wire.routing import NOTHING

log = logging.getLogger(__name__)

_ASSEMBLER = Assembler(lambda key: unknown(DEFAULT_ACCOUNT, key))
#: Bytes of a request's body that are read for parameters.
_BODY_BYTES = 1024 * 1024
_READ_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_NO_NAME = re.compile(r"[^A-Za-z0-9_]")
_SOURCE = re.compile(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?\.[a-z0-9-]+$")


@dataclass(slots=True)
class Seen:
    """A request and its answer as middleware sees them.

    `body` is the start of the request's body, at most a megabyte; `body_length` its length.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    source_ip: str = ""
    body: bytes = b""
    status: int | None = None
    answer_headers: Mapping[str, str] = field(default_factory=dict)
    body_length: int = 0
    answer_length: int = 0
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def take(self, piece: bytes) -> None:
        """Adds the next piece of the request's body."""
        self.body_length += len(piece)
        room = _BODY_BYTES - len(self.body)
        if room > 0 and piece:
            self.body += piece[:room]


def default_name(seen: Seen) -> str:
    """Returns an event name from method and path, without parts that look like ids.

    >>> default_name(Seen("POST", "/orders/17/items"))
    'PostOrdersItems'
    """
    words = [w for w in re.split(r"[^A-Za-z0-9]+", seen.path) if w and not re.search(r"\d", w)]
    return seen.method.capitalize() + "".join(w[:1].upper() + w[1:] for w in words[:8])


def unknown_caller(_seen: Seen) -> dict[str, Any]:
    """Returns the identity of an unknown caller."""
    return {"type": "Unknown", "accountId": DEFAULT_ACCOUNT}


@dataclass(frozen=True, slots=True)
class Recording:
    """How requests become records.

    Args:
        event_source: the application's domain, such as `orders.example.com`.
        shipper: sends the records.
        describe: returns the event name of a request.
        identify: returns the `userIdentity` of a request.
        account: the account of the records.
        region: their Region.
    """

    event_source: str
    shipper: Shipper
    describe: Callable[[Seen], str] = default_name
    identify: Callable[[Seen], dict[str, Any]] = unknown_caller
    account: str = DEFAULT_ACCOUNT
    region: str = GLOBAL_REGION

    def __post_init__(self) -> None:
        if not _SOURCE.match(self.event_source) or self.event_source.endswith(".amazonaws.com"):
            raise UsageError(
                f"event_source must be your own domain, like orders.example.com, "
                f"not {self.event_source!r}"
            )
        if not is_region(self.region):
            raise UsageError(f"region must be like us-east-1, not {self.region!r}")
        if not is_account(self.account):
            raise UsageError(f"account must be 12 digits, not {self.account!r}")

    def record(self, seen: Seen, failure: Failure | None = None) -> None:
        """Makes the record of a request and ships it; `failure` says why it broke off."""
        notes: dict[str, str] = {}
        name, identity = default_name(seen), unknown_caller(seen)
        # The request was served: it is recorded even if these functions fail.
        try:
            name = _name_of(self.describe(seen))
            identity = _identity_of(self.identify(seen))
        except Exception as error:
            log.exception("a request cannot be described")
            notes["undescribed"] = type(error).__name__
        response = None
        if seen.status is not None:
            response = Response(seen.status, seen.answer_headers, b"", False)
        described = Described(
            event_source=self.event_source,
            event_name=_NO_NAME.sub("_", name)[:128],
            is_read_only=seen.method in _READ_METHODS,
            identity=identity,
            account=self.account,
            region=self.region,
            parameters=parameters_of(seen),
            error=_error_code(seen.status),
        )
        exchange = Exchange(
            event_id=new_event_id(),
            started_at=seen.started_at,
            completed_at=datetime.now(UTC),
            source_ip=seen.source_ip,
            request=Request(seen.method, seen.path, seen.query, seen.headers, b"", False),
            credential=None,
            route=NOTHING,
            response=response,
            failure=failure,
            bytes_in=seen.body_length,
            bytes_out=seen.answer_length,
            origin="hook",
            notes=notes,
            described=described,
        )
        self.shipper.ship(_ASSEMBLER.assemble(exchange).entry.record)


def failed(error: Exception) -> Failure:
    """Returns the failure of a call whose application raised an exception."""
    return Failure("InternalServerError", f"the application failed: {type(error).__name__}")


def _name_of(described: Any) -> str:
    if not isinstance(described, str) or not described:
        raise TypeError(f"describe must return a name, not {described!r}")
    return described


def _identity_of(identified: Any) -> dict[str, Any]:
    if not isinstance(identified, Mapping):
        raise TypeError(f"identify must return a userIdentity, not {identified!r}")
    return dict(identified)


def _error_code(status: int | None) -> str | None:
    if status is None:
        return "InternalServerError"
    if status < 400:
        return None
    try:
        return HTTPStatus(status).phrase.replace(" ", "").replace("-", "")
    except ValueError:
        return str(status)


@search_limit()
def parameters_of(seen: Seen) -> dict[str, Any]:
    """Returns path, query and JSON or form body, secrets hidden."""
    parameters: dict[str, Any] = {"method": seen.method, "path": redact(seen.path)}
    if query := _of_pairs(parse_qsl(seen.query, keep_blank_values=True)):
        parameters["query"] = query
    body, content_type = None, seen.headers.get("content-type", "")
    if len(seen.body) == seen.body_length:  # a cut body cannot be parsed
        if "json" in content_type:
            body = _of_json(seen.body)
        elif "form-urlencoded" in content_type:
            text = seen.body.decode("utf-8", "replace")
            body = _of_pairs(parse_qsl(text, keep_blank_values=True))
    if body:
        parameters["body"] = body
    elif seen.body_length:
        parameters["bodyBytes"] = seen.body_length
    return parameters


def _of_json(body: bytes) -> Any:
    try:
        return by_name(json.loads(body), str)
    except (ValueError, RecursionError):
        return None


def _of_pairs(pairs: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Returns names and values, secrets hidden; a repeated name has a list of values."""
    values: dict[str, list[str]] = {}
    for name, value in pairs:
        values.setdefault(name, []).append(value)
    redacted = by_name({n: v[0] if len(v) == 1 else v for n, v in values.items()}, str)
    return dict(redacted)
