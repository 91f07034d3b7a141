"""One request and its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, auto
from typing import Any

from opentrail.core.event import Json
from opentrail.core.identity import Identity
from opentrail.core.value_class import value_class
from opentrail.wire.message import Request, Response
from opentrail.wire.routing import Route
from opentrail.wire.sigv4 import Credential


@dataclass(frozen=True, slots=True)
class Described:
    """A call to a service other than AWS's, as described by its operator.

    `error` is an error code, `identity` the record's `userIdentity`.
    """

    event_source: str
    event_name: str
    is_read_only: bool
    identity: Mapping[str, Any]
    account: str
    region: str
    parameters: Json
    error: str | None = None


class Signature(Enum):
    """The state of a call's signature."""

    #: Signatures are not verified (`--auth permissive`).
    NOT_CHECKED = auto()
    VERIFIED = auto()
    #: The call is unsigned, or its key is not in the key directory: the upstream decided.
    UNVERIFIED = auto()
    #: The caller is not the claimed one.
    REFUSED = auto()


@value_class(frozen=True, slots=True)
class Failure:
    """Why a call broke off: the error of its record, unless its answer has one.

    `code` is a code in docs/reference/records.md, or an exception's name.
    """

    code: str
    message: str


#: Failures on the client's side.
INCOMPLETE = Failure("IncompleteBody", "the client closed before its request was complete")
GONE = Failure("ClientDisconnected", "the client went away before its answer was complete")


@dataclass(slots=True)
class Exchange:
    """A request and its answer, from an upstream or from opentrail's API.

    `failure` is why the call broke off; `response` is then the known part of the answer, or None.
    `origin` is the journal's name for the source of the record.
    """

    event_id: str
    started_at: datetime
    completed_at: datetime
    source_ip: str
    request: Request
    credential: Credential | None
    route: Route
    response: Response | None = None
    failure: Failure | None = None
    #: Bytes of the bodies.
    bytes_in: int = 0
    bytes_out: int = 0
    origin: str = "recorder"
    #: `tlsVersion` and `cipherSuite` of the client's connection, None without TLS.
    tls: dict[str, str] | None = None
    #: Further members of `additionalEventData.opentrail`.
    notes: Json = field(default_factory=dict)
    signature: Signature = Signature.NOT_CHECKED
    #: The owner of the key when the call ended; None: the record looks it up.
    identity: Identity | None = None
    #: Set for calls to a service other than AWS's.
    described: Described | None = None
