"""One call: its head, its record, and opentrail's error answers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from opentrail.capture.proxy.bodies import Framing, Incoming, StoredBody
from opentrail.capture.proxy.endpoint import ClientChannel
from opentrail.capture.proxy.gate import Admission, Claim, wording_of
from opentrail.capture.proxy.head import Headers, response_head, wants_websocket
from opentrail.capture.proxy.refusals import NoAnswer, Refusal, answer_of
from opentrail.capture.proxy.upstream import AnswerHead, UpstreamConnection
from opentrail.capture.record.exchange import Exchange, Failure, Signature
from opentrail.capture.record.s3_form import body_is_parameters
from opentrail.capture.record_rules import needs_answer, source_of
from opentrail.core.event import Json, new_event_id
from opentrail.core.identity import Identity
from opentrail.core.selectors.selection import LeftOut
from opentrail.core.text import printable
from opentrail.wire.form_fields import FIELDS_BYTES
from opentrail.wire.message import Request, Response, fold_headers, is_packed
from opentrail.wire.routing import NOTHING, KnownBy, Route, S3Host, has_parent_segments
from opentrail.wire.signature_errors import Problem, SignatureRefused
from opentrail.wire.sigv4 import (
    ClaimRefused,
    Credential,
    read_claim,
    read_credential,
    read_signer_in_body,
)

log = logging.getLogger(__name__)

#: Maximum bytes of a refused call's body to wait for.
_MAX_REST_BYTES = 64 * 1024
#: Maximum seconds to wait for them.
_REST_SECONDS = 1.0
_API_SERVICES = frozenset({"cloudtrail", "cloudtrail-data"})
_TARGET_SERVICES = frozenset({"cloudtrail"})
_API_TARGETS = ("com.amazonaws.cloudtrail.", "CloudTrail_20131101.")
#: Athena's calls at this path query event history; those at others are for the upstream.
_ATHENA_PATHS = ("/athena", "/athena/")
_ATHENA_TARGET = "AmazonAthena."
_ATHENA_SERVICES = frozenset({"athena"})


class Call:
    """A call of one client connection.

    Attributes:
        event_id: its record's event id.
        source_ip: the caller's address: the peer's, or as reported by a trusted proxy.
        folded: the headers by lowercase name.
        route: the service and operation, as far as known.
        credential: the signer that the call names.
        admission: the progress of verifying the caller; None until that starts.
        sent, received: copies of the bodies for the record.
        upstream: the connection to the upstream while it is in use.
        sending: passes on a body that did not arrive with its head.
        refused: why the caller is not the claimed one.
        answer: the head of the upstream's answer.
        origin: the journal's name for the source of its record.
        is_sent: whether the upstream, or opentrail's API, may have received some of it.
        is_answering: whether a part of the answer has been sent.
        is_recorded: whether its record has been started, or the call counted as lost or excluded.
        left_out: its counter if it is excluded from recording, else None.
    """

    def __init__(self, client: ClientChannel, incoming: Incoming) -> None:
        self.client = client
        self.incoming = incoming
        self.endpoint = client.endpoint
        self.event_id = new_event_id()
        self.source_ip = client.source_ip
        self.folded: dict[str, str] = {}
        self.route: Route = NOTHING
        self.credential: Credential | None = None
        self.admission: Admission | None = None
        self.sent = StoredBody()
        self.received = StoredBody()
        self.upstream: UpstreamConnection | None = None
        self.sending: asyncio.Task[None] | None = None
        self.refused: SignatureRefused | None = None
        self.answer: AnswerHead | None = None
        self.origin = "recorder"
        self.left_out: LeftOut | None = None
        self.is_sent = self.is_answering = self.is_recorded = False
        self._started = self.endpoint.clock.now()
        #: Facts from the head alone: whether the request is complete, its signer, its flaws.
        self._is_whole = False
        self._request_of_head: Request | None = None
        self._signer_in_head: Credential | None = None
        self._refused_claim: ClaimRefused | None = None
        self._identity: Identity | None = None

    # Facts about the call

    def identify(self) -> None:
        """Reads signer and operation from the head, and whether the body is an S3 object.

        Query protocols name the operation in the body; a small body has usually arrived with its
        head.
        """
        incoming = self.incoming
        self.folded = incoming.head.folded
        if (networks := self.endpoint.networks) is not None:
            self.source_ip = networks.client_of(self.source_ip, self.folded)
        self._is_whole = incoming.body.complete
        body = incoming.body.peek() if self._is_whole else b""
        self._request_of_head = request = self._request(body, self._is_whole)
        try:
            self._signer_in_head = read_claim(request)
        except ClaimRefused as refused:
            self._refused_claim = refused
        if self._signer_in_head is None and not self.folded.get("authorization"):
            self.credential = read_signer_in_body(request)
        else:
            self.credential = self._signer_in_head
        self._read_route(request)
        if self.is_s3 and not body_is_parameters(self.route):
            if self.route.operation == "PostObject":
                self.sent.store_start(FIELDS_BYTES)
            else:
                self.sent.drop()

    def choose(self) -> LeftOut | None:
        """Returns the counter of an excluded call, by its head."""
        choice, request = self.endpoint.choice, self._request_of_head
        if choice is None or request is None or self.is_for_api or self.asks_for_websocket:
            return None
        identify = self.endpoint.recorder.identity
        try:
            return choice.left_out(self.route, request, self.credential, identify)
        except Exception:  # the call is recorded in any case
            log.exception("a head could not be read", extra={"eventID": self.event_id})
            return None

    def choose_by_body(self) -> None:
        """Excludes a call of a query protocol whose body arrived after its head."""
        sending = self.sending
        is_sent = sending is None or (sending.done() and sending.exception() is None)
        is_held = self.sent.is_whole and self.sent.file is None
        if self._is_whole or not self.is_form or not is_sent or not is_held:
            return
        self._request_of_head = request = self._request(self.sent.content(), is_whole=True)
        self._name_by(request)
        self.left_out = self.choose()
        self.count_left_out()

    def count_left_out(self) -> None:
        """Counts an excluded call, once; records a call that cannot be counted."""
        if self.left_out is None or self.endpoint.choice is None or self.is_recorded:
            return
        if self.endpoint.choice.count(self.left_out):
            self.is_recorded = True
            self.sent.drop()
            self.received.drop()
        else:
            self.left_out = None

    async def whole_body(self, limit: int) -> bytes:
        """Returns the request's body once it has arrived completely.

        Raises:
            NoAnswer: it has more than `limit` bytes.
            BrokenOffError: the client broke it off.
        """
        self.client.ask_to_continue(self.incoming)
        pieces: list[bytes] = []
        while piece := await self.incoming.body.next():
            pieces.append(piece)
            self.sent.add(piece)
            if self.sent.length > limit:
                reason = f"body is larger than {limit} bytes"
                raise NoAnswer(Refusal(413, "RequestEntityTooLarge", reason))
        return b"".join(pieces)

    @property
    def path_and_query(self) -> tuple[str, str]:
        path, _, query = self.incoming.head.target.decode("latin-1").partition("?")
        return path, query

    @property
    def method(self) -> str:
        return self.incoming.head.method.decode("latin-1")

    @property
    def is_s3(self) -> bool:
        """Whether it is a call to S3."""
        return self.route.service is not None and self.route.service.name == "s3"

    @property
    def is_like_s3(self) -> bool:
        """Whether a store of S3 that ignores signing names may carry it out."""
        request = self._request_of_head
        return request is not None and self.endpoint.router.is_like_s3(request)

    @property
    def s3_host(self) -> S3Host:
        """The reading of its host, for S3."""
        signer = self.credential.service if self.credential else None
        return self.endpoint.router.read_host(self.folded.get("host", ""), signer)

    @property
    def bucket_in_host(self) -> str | None:
        """The bucket that a virtual-host style request names in its host."""
        bucket, route = self.s3_host.bucket, self.route
        # The label before WriteGetObjectResponse's host is the route of an answer.
        is_bucket = route.operation is None or bucket == route.labels.get("Bucket")
        return bucket if is_bucket else None

    @property
    def is_for_api(self) -> bool:
        """Whether opentrail's own API answers it."""
        if self.credential is not None and self.credential.service is not None:
            service = self.credential.service
            return service in _API_SERVICES or (service == "athena" and self._is_for_athena)
        return self._has_api_target or self._is_for_athena

    @property
    def api_services(self) -> frozenset[str]:
        """The services that the signature of a call to opentrail's own API may name."""
        if self._is_for_athena:
            return _ATHENA_SERVICES
        return _TARGET_SERVICES if self._has_api_target else _API_SERVICES

    @property
    def _has_api_target(self) -> bool:
        return self.folded.get("x-amz-target", "").startswith(_API_TARGETS)

    @property
    def _is_for_athena(self) -> bool:
        """Whether it is a call of Athena's API that event history answers."""
        has_target = self.folded.get("x-amz-target", "").startswith(_ATHENA_TARGET)
        return has_target and self.path_and_query[0] in _ATHENA_PATHS

    @property
    def asks_for_websocket(self) -> bool:
        return "upgrade" in self.folded and wants_websocket(self.incoming.head)

    @property
    def is_form(self) -> bool:
        """Whether the body is an HTML form, as in the query protocols."""
        return "form-urlencoded" in self.folded.get("content-type", "")

    def _request(self, body: bytes, is_whole: bool) -> Request:
        request = self._request_of_head
        if request is not None and request.body_is_whole == is_whole and request.body == body:
            return request
        path, query = self.path_and_query
        return Request(self.method, path, query, self.folded, body, is_whole)

    # Who calls

    async def admit(self, body: bytes | None, own_services: frozenset[str] | None = None) -> None:
        """Verifies the caller from the request so far; `body` is the whole body.

        Raises:
            SignatureRefused: the caller is not the claimed one.
        """
        if self.endpoint.gate is None:
            return
        self.admission = self.endpoint.gate.admit(self._claim(own_services))
        if body is not None:
            await self.verify_body(body)

    async def verify_body(self, body: bytes) -> None:
        """Verifies the whole body, unless it was verified when the call was admitted.

        Raises:
            SignatureRefused: it differs from the signed body.
        """
        if self.admission is not None and not self.admission.is_done:
            await self.verify_piece(self.admission, body)
            self.admission.finish()

    async def verify_piece(self, admission: Admission, piece: bytes) -> None:
        """Verifies a piece of the body.

        Raises:
            SignatureRefused: it differs from the signed body.
        """
        if self.endpoint.gate is None or not is_packed(self.folded):
            admission.feed(piece)
            return
        async with self.endpoint.gate.unpacking:
            await asyncio.to_thread(admission.feed, piece)

    def refuse_ambiguous(self) -> None:
        """Refuses an ambiguous claim, service, host or path: the record has only one reading.

        Raises:
            SignatureRefused: the claim is ambiguous, verified or not.
            NoAnswer: another part is.
        """
        refused = self._refused_claim
        if refused is not None:
            raise wording_of(self._claim()).refusal(refused.problem, **refused.details)
        if self.route.conflict is not None:
            reason = f"upstreams may read this request as different calls: {self.route.conflict}"
            raise NoAnswer(Refusal(400, "InvalidRequest", reason))
        path = self._request_of_head.path if self._request_of_head else ""
        if "/." not in path and "%2" not in path:  # nearly always
            return
        bound = 0 if self.bucket_in_host else 1
        # No other service has names consisting of dots.
        if has_parent_segments(path, bound if self.is_s3 else len(path)):
            reason = "the path has a segment . or .., which programs read in different ways"
            raise NoAnswer(Refusal(400, "InvalidURI", reason))

    def refuse_unverified(self) -> None:
        """Refuses a call whose signature would be replaced before anybody verified it.

        Raises:
            SignatureRefused: its key is unknown, and the upstream would not see its signature.
        """
        admission = self.admission
        is_signed = self.credential is not None and self.credential.method != "HTMLForm"
        if admission is not None and admission.is_left_to_upstream and is_signed:
            raise wording_of(self._claim()).refusal(Problem.UNKNOWN_KEY)

    def _claim(self, own_services: frozenset[str] | None = None) -> Claim:
        """Returns the head's claims, for the gate."""
        head = self.incoming.head
        request = self._request(b"", is_whole=False)
        return Claim(
            request,
            head.target,
            head.headers,
            self._signer_in_head,
            self.route,
            own_services,
            self.source_ip,
        )

    # Its record

    def drop_unrecorded_answer(self, answer: AnswerHead) -> None:
        """Stores an answer's body only if the record needs it."""
        if answer.status >= 300 or self.route.service is None:
            return
        if not self._is_whole and self.route.protocol not in ("json", "rest-json", "rest-xml"):
            return  # the operation may be in a request body that has not arrived yet
        source = source_of(self.route.service)
        if not needs_answer(source, self.route.operation or ""):
            self.received.drop()

    def exchange(self, body: bytes, failure: Failure | None = None) -> Exchange:
        """Returns the exchange, without an answer."""
        request = self._request(body, self.sent.is_whole)
        if not self._is_whole and (body or self.sent.start):
            # A body too large to store still has its start.
            self._name_by(request if body else self._request(self.sent.start, is_whole=True))
        notes: Json = {}
        if self.sent.oversize is not None:
            notes["oversizeRequestBody"] = self.sent.oversize
        if self.received.oversize is not None:
            notes["oversizeAnswerBody"] = self.received.oversize
        return Exchange(
            event_id=self.event_id,
            started_at=self._started,
            completed_at=self.endpoint.clock.now(),
            source_ip=self.source_ip,
            request=request,
            credential=self.credential,
            route=self.route,
            failure=failure,
            bytes_in=self.sent.length,
            bytes_out=self.received.length,
            origin=self.origin,
            tls=self.client.tls,
            notes=notes,
            signature=self._signature(),
            identity=self._identity,
        )

    def _read_route(self, request: Request) -> None:
        """Reads the call of a request; a host that may name a bucket is a conflict."""
        self.route = route = self.endpoint.router.identify(request, self.credential)
        if not self.is_s3 or route.conflict is not None:
            return
        if self.s3_host.known_by is KnownBy.NOTHING:
            name = printable(self.folded.get("host", ""))
            conflict = f"the host {name} may name a bucket; --domain sets the endpoint's names"
            self.route = Route(route.service, None, route.protocol, {}, conflict)

    def _name_by(self, request: Request) -> None:
        """Reads values only in a body: the operation of query protocols, the key of version 2."""
        try:
            self.credential = self.credential or read_credential(request)
            self._read_route(request)
        except Exception:  # the call is recorded by its head alone
            log.exception("a body could not be read", extra={"eventID": self.event_id})

    def _signature(self) -> Signature:
        """Returns the state of the call's signature."""
        if self.refused is not None:
            return Signature.REFUSED
        return self.admission.signature if self.admission else Signature.NOT_CHECKED

    def answered(self, answer: AnswerHead) -> Exchange:
        """Returns the exchange with its answer."""
        exchange = self.exchange(self.sent.content(), self.incoming.body.broken)
        received, is_whole = self.received.content(), self.received.is_whole
        exchange.response = Response(answer.status, answer.folded, received, is_whole)
        return exchange

    def record_later(self, answer: AnswerHead) -> None:
        """Records the answered call after its answer, as with `allow`."""
        exchange = self.answered(answer)
        self.is_recorded = True
        self.endpoint.recorder.record_later(exchange)

    async def record(self, make: Callable[[], Exchange]) -> str | None:
        """Returns None once the call's record is durable, otherwise the reason for its absence.

        `make` returns the exchange. Bodies in files are read into memory one call at a time. An
        excluded call needs none.
        """
        if self.left_out is not None:
            self.count_left_out()
        if self.left_out is not None:  # it could be counted
            return None
        if self.sent.file is None and self.received.file is None:
            lost = await self._record(make)
        else:
            if self.credential is not None:
                # Keys may be deleted and users renamed while it is queued.
                self._identity = self.endpoint.recorder.identity(self.credential.access_key_id)
            async with self.endpoint.recorder.turn:
                lost = await self._record(make)
        # A client may read its answer slowly.
        self.sent.drop()
        self.received.drop()
        return lost

    def _record(self, make: Callable[[], Exchange]) -> Awaitable[str | None]:
        exchange = make()
        self.is_recorded = True
        return self.endpoint.recorder.record_or_count(exchange)

    # Errors that opentrail answers itself

    def turn_away(self, refusal: Refusal, kind: str, *, is_last: bool = False) -> bool:
        """Answers with an error and without a record, and counts the call as `kind`.

        Returns whether the connection may be used again.
        """
        self.endpoint.metrics.refused.labels(kind).inc()
        self.write_refusal(refusal, is_last=is_last)
        self.incoming.body.take()  # waiting bytes may have paused the connection
        return self.incoming.keep_alive and self.incoming.body.complete

    async def refuse(
        self, refusal: Refusal, kind: str = "upstream", *, is_last: bool = False
    ) -> bool:
        """Records a call that its upstream did not answer, then answers it with an error.

        Returns whether the connection may be used again.
        """

        def refused() -> Exchange:
            exchange = self.exchange(self.sent.content(), Failure(refusal.code, refusal.message))
            status, _, headers, body = answer_of(refusal, self.route, self.is_form)
            exchange.response = Response(status, fold_headers(headers), body)
            return exchange

        await self._take_rest_of_body()
        await self.record(refused)
        return self.turn_away(refusal, kind, is_last=is_last)

    async def refuse_signature(self, refused: SignatureRefused) -> bool:
        """Records and answers a call whose caller is not the claimed one."""
        self.refused, self.left_out = refused, None
        if self.endpoint.gate is not None:
            signer = self.credential
            # Only the gate knows a signer in a body that arrived after its head.
            key_id = signer.access_key_id if signer else refused.access_key_id
            self.endpoint.gate.count_failure(key_id, self.source_ip)
        refusal = Refusal(refused.status, refused.code, refused.message)
        return await self.refuse(refusal, "signature")

    async def _take_rest_of_body(self) -> None:
        """Waits briefly for a small body, which may name the refused operation."""
        body, sent = self.incoming.body, self.sent
        sent.add(body.take())
        if body.complete or self.folded.get("expect"):
            return  # a client that waits for `100 Continue` sends nothing before the answer
        try:
            async with asyncio.timeout(_REST_SECONDS):
                while sent.length <= _MAX_REST_BYTES and (piece := await body.next()):
                    sent.add(piece)
        except (TimeoutError, ConnectionError):
            return

    def write_refusal(self, refusal: Refusal, *, is_last: bool = False) -> None:
        """Answers with an error; the last answer announces the end of the connection."""
        if is_last:
            self.incoming.keep_alive = False
        status, reason, headers, body = answer_of(refusal, self.route, self.is_form)
        self.write_answer(status, reason, headers, body)

    def write_answer(self, status: int, reason: bytes, headers: Headers, body: bytes) -> None:
        """Writes a whole answer."""
        extra: Headers = []
        if not any(name.lower() == b"content-length" for name, _ in headers):
            extra.append((b"Content-Length", b"%d" % len(body)))
        is_kept = self.incoming.keep_alive and self.incoming.body.complete
        if not is_kept or self.endpoint.stopping:
            extra.append((b"Connection", b"close"))
        content = b"" if self.incoming.head.method == b"HEAD" else body
        self.client.write(response_head(status, reason, headers, extra) + content)

    # The upstream

    async def leave_upstream(self) -> None:
        """Closes the connection to the upstream, and stops sending to it."""
        if self.upstream is not None:
            self.upstream.close()
            self.upstream = None
        if self.sending is not None:
            self.sending.cancel()
            await asyncio.gather(self.sending, return_exceptions=True)
            self.sending = None

    def framing(self, answer: AnswerHead, keep_alive: bool) -> Framing:
        """Returns the way the client finds the end of an answer."""
        head = self.incoming.head
        is_bodiless = head.method == b"HEAD" or answer.status in (204, 304)
        needs_framing = not is_bodiless and "content-length" not in answer.folded
        # The last chunk of an event stream waits for the record, so each stream needs one.
        ends_with_chunk = head.version != "1.0" and (answer.framed or answer.is_event_stream)
        return Framing(
            keep_alive=keep_alive,
            chunked=needs_framing and ends_with_chunk,
            unframed=needs_framing and not ends_with_chunk,
        )

    def write_part(self, answer: AnswerHead, framing: Framing, part: bytes) -> None:
        """Writes a part of the answer, the first with its head."""
        if not self.is_answering:
            self.is_answering = True
            part = (
                response_head(answer.status, answer.reason, answer.headers, framing.headers) + part
            )
        self.client.write(part)
