"""One request and its answer, as capture sees it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from opentrail.core.values import value_class
from opentrail.wire.message import Request, Response
from opentrail.wire.routing import Call
from opentrail.wire.sigv4 import Credential


@dataclass(frozen=True, slots=True)
class Described:
    """What a service of one's own says of a call, where no model of AWS's does.

    `error` is an error code, `identity` the record's `userIdentity`.
    """

    event_source: str
    event_name: str
    is_read_only: bool
    identity: Mapping[str, Any]
    account: str
    region: str
    parameters: dict[str, Any]
    error: str | None = None


@value_class(frozen=True, slots=True)
class Failure:
    """Where a call broke off: the error of its record, unless its answer has one.

    `code` is one of those in docs/reference/records.md, or an exception's name.
    """

    code: str
    message: str


#: What breaks a call off on the client's side.
INCOMPLETE = Failure("IncompleteBody", "the client closed before its request was complete")
GONE = Failure("ClientDisconnected", "the client went away before its answer was complete")


@dataclass(slots=True)
class Exchange:
    """What passed between a client and its upstream (or our own API).

    `failure` says where the call broke off; `response` is then what is known of the answer, or
    None. `origin` is the journal's word for the way in.
    """

    event_id: str
    started_at: datetime
    completed_at: datetime
    source_ip: str
    request: Request
    credential: Credential | None
    call: Call
    response: Response | None = None
    failure: Failure | None = None
    #: Bytes of the bodies as they passed, kept or not.
    bytes_in: int = 0
    bytes_out: int = 0
    origin: str = "recorder"
    #: `tlsVersion` and `cipherSuite` of the client's connection, None without TLS.
    tls: dict[str, str] | None = None
    #: What else is worth keeping in our own block of the record.
    notes: dict[str, Any] = field(default_factory=dict)
    #: Of calls of a service of one's own.
    described: Described | None = None
