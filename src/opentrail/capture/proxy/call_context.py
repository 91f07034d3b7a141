"""The known facts of one call, and the exchange that its record is made of."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from opentrail.capture.proxy.bodies import Incoming, StoredBody
from opentrail.capture.proxy.gate import Admission, Claim
from opentrail.capture.proxy.upstream import AnswerHead
from opentrail.capture.record.exchange import Exchange, Failure, Signature
from opentrail.capture.record.networks import Networks
from opentrail.capture.record.rules import needs_answer, source_of
from opentrail.capture.record.s3_form import body_is_parameters
from opentrail.core.event import new_event_id
from opentrail.ports.clock import Clock
from opentrail.wire.message import Request, Response
from opentrail.wire.multipart import FIELDS_BYTES
from opentrail.wire.routing import NOTHING, Call, Router
from opentrail.wire.sigv4 import (
    ClaimRefused,
    Credential,
    read_claim,
    read_credential,
    read_signer_in_body,
)


class CallContext:
    """Head, stored bodies, signer and operation of a call."""

    def __init__(
        self,
        incoming: Incoming,
        router: Router,
        clock: Clock,
        peer: str,
        tls: dict[str, str] | None,
        networks: Networks,
    ) -> None:
        self._incoming = incoming
        self._router = router
        self._clock = clock
        self._networks, self._tls = networks, tls
        #: The caller's address: the peer's, or the one that a trusted proxy reports.
        self.source_ip = peer
        self._started: datetime = clock.now()
        self._knows_all = False
        self._path_and_query: tuple[str, str] | None = None
        self._looked_at: Request | None = None
        self.event_id = new_event_id()
        self.call: Call = NOTHING
        #: The signer that the call names, and the one that its head names.
        self.credential: Credential | None = None
        self._signer_in_head: Credential | None = None
        #: What is wrong with the head's claim of a signer.
        self.refused_claim: ClaimRefused | None = None
        self.folded: dict[str, str] = {}
        #: How far the caller is verified; None while that is not asked for.
        self.admission: Admission | None = None
        self.is_refused = False
        #: Copies of the bodies for the record.
        self.sent = StoredBody(keep=True)
        self.received = StoredBody(keep=True)

    def look_at_head(self) -> None:
        """Reads signer and service from the head, and whether the body is an S3 object.

        Query protocols name the operation in the body; a small one has mostly come with its head.
        """
        self.folded = self._incoming.head.folded
        self.source_ip = self._networks.client_of(self.source_ip, self.folded)
        self._knows_all = self._incoming.body.complete
        body = self._incoming.body.peek() if self._knows_all else b""
        self._looked_at = request = self._request(body, self._knows_all)
        try:
            self._signer_in_head = read_claim(request)
        except ClaimRefused as refused:
            self.refused_claim = refused
        if self._signer_in_head is None and not self.folded.get("authorization"):
            self.credential = read_signer_in_body(request)
        else:
            self.credential = self._signer_in_head
        self.call = self._router.identify(request, self.credential)
        service = self.call.service
        if service is not None and service.name == "s3" and not body_is_parameters(self.call):
            if self.call.operation == "PostObject":
                self.sent.store_start(FIELDS_BYTES)
            else:
                self.sent.drop()

    @property
    def path_and_query(self) -> tuple[str, str]:
        if self._path_and_query is None:
            path, _, query = self._incoming.head.target.decode("latin-1").partition("?")
            self._path_and_query = path, query
        return self._path_and_query

    @property
    def method(self) -> str:
        return self._incoming.head.method.decode("latin-1")

    @property
    def bucket_in_host(self) -> str | None:
        """The bucket that a virtual-host style request names in its host."""
        signer = self.credential.service if self.credential else None
        bucket = self._router.bucket_of_host(self.folded.get("host", ""), signer)
        return bucket if bucket == self.call.labels.get("Bucket") else None

    @property
    def is_form(self) -> bool:
        """Whether the body is an HTML form, as in the query protocols."""
        return "form-urlencoded" in self.folded.get("content-type", "")

    def _request(self, body: bytes, whole: bool) -> Request:
        seen = self._looked_at
        if seen is not None and seen.body_is_whole == whole and seen.body == body:
            return seen
        path, query = self.path_and_query
        return Request(self.method, path, query, self.folded, body, whole)

    def drop_unrecorded_answer(self, head: AnswerHead) -> None:
        """Stores an answer's body only if the record needs it."""
        if head.status >= 300 or self.call.service is None:
            return
        if not self._knows_all and self.call.protocol not in ("json", "rest-json", "rest-xml"):
            return  # the operation may be in a request body that has not come yet
        source = source_of(self.call.service)
        if not needs_answer(source, self.call.operation or ""):
            self.received.drop()

    def exchange(self, body: bytes, failure: Failure | None = None) -> Exchange:
        """Returns the exchange, without an answer."""
        request = self._request(body, whole=self.sent.is_whole)
        if not self._knows_all and body:
            # Query protocols name their operation in the body, version 2 signatures their key.
            self.credential = self.credential or read_credential(request)
            self.call = self._router.identify(request, self.credential)
        notes: dict[str, Any] = {}
        if self.sent.oversize is not None:
            notes["oversizeRequestBody"] = self.sent.oversize
        if self.received.oversize is not None:
            notes["oversizeAnswerBody"] = self.received.oversize
        return Exchange(
            event_id=self.event_id,
            started_at=self._started,
            completed_at=self._clock.now(),
            source_ip=self.source_ip,
            request=request,
            credential=self.credential,
            call=self.call,
            failure=failure,
            bytes_in=self.sent.length,
            bytes_out=self.received.length,
            tls=self._tls,
            notes=notes,
            signature=self.signature,
        )

    @property
    def signature(self) -> Signature:
        """What is known of the call's signature so far."""
        if self.is_refused:
            return Signature.REFUSED
        return self.admission.signature if self.admission else Signature.NOT_CHECKED

    def claim(self, own_services: frozenset[str] | None = None) -> Claim:
        """Returns what the head claims, for the gate."""
        head, request = self._incoming.head, self._request(b"", False)
        signer = self._signer_in_head
        return Claim(request, head.target, head.headers, signer, self.call, own_services)

    def response(self, status: int, headers: Mapping[str, str]) -> Response:
        """Returns the answer, with the stored part of its body."""
        whole = self.received.is_whole
        return Response(status, headers, self.received.content(), whole)
