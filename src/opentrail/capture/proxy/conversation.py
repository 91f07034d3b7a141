"""One call: read, forwarded (or answered by ourselves), recorded, answered."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from opentrail.capture.asgi import OwnCall
from opentrail.capture.assemble import new_event_id
from opentrail.capture.exchange import Exchange
from opentrail.capture.proxy.bodies import Flow, KeptBody
from opentrail.capture.proxy.framing import Framing, Incoming
from opentrail.capture.proxy.head import (
    LAST_CHUNK,
    BadHead,
    Headers,
    chunk,
    request_head,
    response_head,
)
from opentrail.capture.proxy.refusals import Refusal, answer_of, unavailable
from opentrail.capture.proxy.upstream import AnswerHead, Upstream, UpstreamConnection
from opentrail.capture.s3_form import body_is_parameters
from opentrail.capture.tables import needs_answer, source_of
from opentrail.core.errors import RecordRefused
from opentrail.wire.message import Request, Response, fold_headers
from opentrail.wire.multipart import FIELDS_BYTES
from opentrail.wire.routing import NOTHING, Call
from opentrail.wire.sigv4 import Credential, read_credential

if TYPE_CHECKING:
    from opentrail.capture.proxy.client import ClientConnection

#: With `refuse`, answers up to this size are held whole until their record is durable.
HOLD_BYTES = 64 * 1024
#: Of longer answers so much of the end waits.
HOLD_TAIL_BYTES = 4 * 1024
#: Longest silence of an upstream before its answer (a Lambda may run for 15 minutes).
ANSWER_SECONDS = 910.0
_OWN_SERVICES = frozenset({"cloudtrail", "cloudtrail-data"})
_OWN_TARGETS = ("com.amazonaws.cloudtrail.", "CloudTrail_20131101.")
_OWN_BODY_BYTES = 1024 * 1024
_STREAMS = ("application/vnd.amazon.eventstream", "text/event-stream")


class Conversation:
    """One call of one client connection."""

    def __init__(self, client: ClientConnection, incoming: Incoming) -> None:
        self._client = client
        self._endpoint = client.endpoint
        self._incoming = incoming
        self._started: datetime = self._endpoint.clock.now()
        self._event_id = new_event_id()
        self._call: Call = NOTHING
        self._credential: Credential | None = None
        self._folded: dict[str, str] = {}
        self._sent = KeptBody(keep=True)
        self._received = KeptBody(keep=True)
        self._wrote_head = self._knows_all = False

    async def run(self) -> bool:
        """Answers the call; the result tells whether the connection may be used again."""
        incoming = self._incoming
        if incoming.bad is not None:
            return self._refuse_unread(incoming.bad)
        self._look_at_head()
        recorder = self._endpoint.recorder
        if recorder.failure:
            self._endpoint.metrics.refused.labels("journal").inc()
            self._write_refusal(unavailable(f"the call cannot be recorded: {recorder.failure}"))
            return False
        if self._is_own():
            return await self._answer_ourselves()
        service = self._call.service
        upstream = self._endpoint.upstreams.of(
            service.name if service else None,
            service.signing_name if service else None,
            self._credential.service if self._credential else None,
        )
        if upstream is None:
            name = service.name if service else "this call"
            return await self._refuse(Refusal(502, "BadGateway", f"no upstream for {name}"))
        return await self._forward(upstream)

    def _look_at_head(self) -> None:
        """Reads what the head tells: signer, service, and whether the body is an object.

        Query protocols tell it in the body; a small one has mostly come with its head.
        """
        self._folded = fold_headers(self._incoming.head.headers)
        self._knows_all = self._incoming.body.complete
        body = self._incoming.body.peek() if self._knows_all else b""
        request = self._request(body, self._knows_all)
        self._credential = read_credential(request)
        self._call = self._endpoint.router.identify(request, self._credential)
        service = self._call.service
        if service is not None and service.name == "s3" and not body_is_parameters(self._call):
            if self._call.operation == "PostObject":
                self._sent.keep_start(FIELDS_BYTES)
            else:
                self._sent.drop()

    def _request(self, body: bytes, whole: bool) -> Request:
        target = self._incoming.head.target.decode("latin-1")
        path, _, query = target.partition("?")
        method = self._incoming.head.method.decode("latin-1")
        return Request(method, path, query, self._folded, body, whole)

    def _is_own(self) -> bool:
        if self._credential is not None and self._credential.service is not None:
            return self._credential.service in _OWN_SERVICES
        return self._folded.get("x-amz-target", "").startswith(_OWN_TARGETS)

    # Our own API

    async def _answer_ourselves(self) -> bool:
        try:
            body = await self._whole_body()
        except ConnectionError as error:
            self._write_refusal(Refusal(400, "BadRequest", str(error)))
            return False
        if body is None:
            return await self._refuse(
                Refusal(
                    413, "RequestEntityTooLarge", f"body is larger than {_OWN_BODY_BYTES} bytes"
                )
            )
        if self._folded.get("expect", "").lower() == "100-continue":
            self._folded.pop("expect")
        exchange = self._exchange(body)
        exchange.origin = "api"
        identity = None
        account, region = self._endpoint.recorder.caller(exchange)
        if self._credential is not None:
            identity = self._endpoint.recorder.identity(self._credential.access_key_id)
        own = OwnCall(self._event_id, identity, account, region, self._client.source_ip)
        head = self._incoming.head
        answer = await self._endpoint.own_calls(head.method, head.target, head.headers, body, own)
        self._received.add(answer.body)
        exchange.response = Response(answer.status, fold_headers(answer.headers), answer.body)
        exchange.completed_at = self._endpoint.clock.now()
        exchange.bytes_out = len(answer.body)
        try:
            position = await self._endpoint.recorder.record(exchange)
        except RecordRefused as error:
            # Its effect stands; it counts from here on, though no record tells of it.
            position = self._endpoint.recorder.lose(exchange, str(error))
            if self._endpoint.recorder.refuse:
                await _run_all(own.when_recorded, position)
                self._write_refusal(unavailable(f"the call cannot be recorded: {error}"))
                return False
        await _run_all(own.when_recorded, position)
        self._write_answer(
            answer.status, b"OK" if answer.status == 200 else b"", answer.headers, answer.body
        )
        return self._incoming.keep_alive

    async def _whole_body(self) -> bytes | None:
        """Returns the request's body, None if it is too large for an API call of ours."""
        if self._folded.get("expect", "").lower() == "100-continue":
            self._client.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while piece := await self._incoming.body.next():
            self._sent.add(piece)
            if self._sent.length > _OWN_BODY_BYTES:
                return None
        return self._sent.content()

    # Forwarding

    async def _forward(self, upstream: Upstream) -> bool:
        incoming = self._incoming
        try:
            connection, reused = await self._client.upstream(upstream)
        except TimeoutError:
            reason = f"upstream {upstream.url} did not accept a connection in time"
            return await self._refuse(Refusal(504, "GatewayTimeout", reason))
        except OSError as error:
            reason = f"upstream {upstream.url} cannot be reached: {error.strerror or error}"
            return await self._refuse(Refusal(502, "BadGateway", reason))
        answer = connection.begin(incoming.head.method == b"HEAD")
        sending = self._start_sending(connection, request_head(incoming.head, incoming.chunked))
        try:
            head = await self._final_head(connection)
        except (ConnectionError, TimeoutError) as error:
            connection.close()
            await _stopped(sending)
            if reused and self._may_repeat(error):
                return await self._forward(upstream)
            return await self._no_answer(error, sending)
        except asyncio.CancelledError:
            connection.close()
            raise
        whole_request = sending is None or sending.done()
        alive = await self._pass_answer(head, answer)
        if not whole_request:
            await _stopped(sending)
        if sending is not None and not whole_request:
            connection.close()
            return False
        self._client.keep_upstream(upstream, connection)
        return alive

    def _may_repeat(self, error: Exception) -> bool:
        """A kept connection may have been closed while idle; reading again changes nothing."""
        safe = self._incoming.head.method in (b"GET", b"HEAD") and not self._sent.length
        return safe and isinstance(error, ConnectionError) and not self._client.lost

    def _start_sending(
        self, connection: UpstreamConnection, head: bytes
    ) -> asyncio.Task[None] | None:
        """Sends the head, and the body: at once if it is all here, else beside the answer."""
        if self._incoming.body.complete:
            body = self._incoming.body.take()
            self._sent.add(body)
            if self._incoming.chunked:
                body = (chunk(body) if body else b"") + LAST_CHUNK
            connection.write(head + body)
            return None
        connection.write(head)
        return asyncio.get_running_loop().create_task(self._send_body(connection))

    async def _send_body(self, connection: UpstreamConnection) -> None:
        try:
            while piece := await self._incoming.body.next():
                self._send_piece(connection, piece)
                await connection.drain()
        except ConnectionError:
            # The client went away; what it meant to say can never be completed.
            connection.close()
            raise
        self._send_end(connection)

    def _send_piece(self, connection: UpstreamConnection, piece: bytes) -> None:
        if piece:
            self._sent.add(piece)
            connection.write(chunk(piece) if self._incoming.chunked else piece)

    def _send_end(self, connection: UpstreamConnection) -> None:
        if self._incoming.chunked:
            connection.write(LAST_CHUNK)

    async def _final_head(self, connection: UpstreamConnection) -> AnswerHead:
        while True:
            async with asyncio.timeout(ANSWER_SECONDS):
                head = await connection.next_head()
            if not 100 <= head.status < 200:
                return head
            if self._incoming.head.version != "1.0":
                self._client.write(response_head(head.status, head.reason, head.headers, []))

    async def _no_answer(self, error: Exception, sending: asyncio.Task[None] | None) -> bool:
        """Records and answers a call whose upstream gave no answer."""
        if sending is not None and self._incoming.body.broken is not None:
            await self._record_broken(self._incoming.body.broken)
            if not self._client.lost:
                self._write_refusal(Refusal(400, "BadRequest", self._incoming.body.broken))
            return False
        if isinstance(error, TimeoutError):
            return await self._refuse(Refusal(504, "GatewayTimeout", "the upstream did not answer"))
        return await self._refuse(Refusal(502, "BadGateway", str(error)))

    async def _pass_answer(self, head: AnswerHead, answer: Flow) -> bool:
        """Passes the answer on; with `refuse` its end leaves when the record is durable."""
        self._decide_what_to_keep(head)
        framing = self._framing(head)
        hold, tail = self._how_much_to_hold(head)
        held = b""
        try:
            while piece := await answer.next():
                self._received.add(piece)
                held = held + piece if held else piece
                if len(held) > hold:
                    # Of a long answer only the tail goes on waiting.
                    cut = len(held) - tail
                    await self._write_part(head, framing, [framing.piece(held[:cut])])
                    held, hold = held[cut:], tail
        except ConnectionError as error:
            return await self._broken_answer(error)
        return await self._finish_answer(head, framing, held)

    def _how_much_to_hold(self, head: AnswerHead) -> tuple[int, int]:
        """Returns how long an answer is held whole, and how much of a longer one's end."""
        streams = fold_headers(head.headers).get("content-type", "").startswith(_STREAMS)
        if not self._endpoint.recorder.refuse or streams:
            return 0, 0
        return HOLD_BYTES, HOLD_TAIL_BYTES

    def _decide_what_to_keep(self, head: AnswerHead) -> None:
        """Keeps an answer's body only if the record will hold something of it."""
        if head.status >= 300 or self._call.service is None:
            return
        if not self._knows_all and self._call.protocol not in ("json", "rest-json", "rest-xml"):
            return  # the operation may stand in a request body that is still on its way
        label = source_of(self._call.service)
        if not needs_answer(label, self._call.operation or ""):
            self._received.drop()

    async def _finish_answer(self, head: AnswerHead, framing: Framing, held: bytes) -> bool:
        last = [framing.piece(held)] if held else []
        exchange = self._exchange(self._sent.content())
        exchange.response = self._response(head)
        recorder = self._endpoint.recorder
        if not recorder.refuse:
            await self._write_part(head, framing, [*last, framing.end])
            recorder.record_later(exchange)
            return framing.keep_alive
        try:
            await recorder.record(exchange)
        except RecordRefused as error:
            if self._wrote_head:
                self._client.abort_transport()
            else:
                self._write_refusal(unavailable(f"the call could not be recorded: {error}"))
            return False
        if not self._wrote_head and framing.unframed:
            framing.set_length(len(held))
        await self._write_part(head, framing, [*last, framing.end])
        return framing.keep_alive

    async def _broken_answer(self, error: ConnectionError) -> bool:
        """Records an answer that broke off; the client sees a broken answer, too."""
        if not self._wrote_head:
            return await self._refuse(Refusal(502, "BadGateway", str(error)))
        await self._record_broken(str(error))
        self._client.abort_transport()
        return False

    async def _record_broken(self, reason: str) -> None:
        exchange = self._exchange(self._sent.content())
        exchange.failure = reason
        recorder = self._endpoint.recorder
        try:
            await recorder.record(exchange)
        except RecordRefused as error:
            recorder.lose(exchange, str(error))

    async def _write_part(self, head: AnswerHead, framing: Framing, pieces: list[bytes]) -> None:
        out = pieces
        if not self._wrote_head:
            self._wrote_head = True
            first = response_head(head.status, head.reason, head.headers, framing.headers)
            out = [first, *pieces]
        self._client.write(b"".join(out))
        await self._client.drain()

    def _framing(self, head: AnswerHead) -> Framing:
        names = {name.lower() for name, _ in head.headers}
        bodiless = self._incoming.head.method == b"HEAD" or head.status in (204, 304)
        needs_framing = not bodiless and b"content-length" not in names
        return Framing(
            keep_alive=self._incoming.keep_alive,
            chunked=needs_framing and self._incoming.head.version != "1.0" and head.framed,
            unframed=needs_framing and (not head.framed or self._incoming.head.version == "1.0"),
        )

    # Records

    def _exchange(self, body: bytes) -> Exchange:
        request = self._request(body, whole=self._sent.is_whole)
        if not self._knows_all and body:
            # Query protocols name their operation in the body, version 2 signatures their key.
            self._credential = self._credential or read_credential(request)
            self._call = self._endpoint.router.identify(request, self._credential)
        notes: dict[str, Any] = {}
        if self._sent.oversize is not None:
            notes["oversizeRequestBody"] = self._sent.oversize
        return Exchange(
            event_id=self._event_id,
            started_at=self._started,
            completed_at=self._endpoint.clock.now(),
            source_ip=self._client.source_ip,
            request=request,
            credential=self._credential,
            call=self._call,
            bytes_in=self._sent.length,
            bytes_out=self._received.length,
            tls=self._client.tls,
            notes=notes,
        )

    def _response(self, head: AnswerHead) -> Response:
        whole = self._received.is_whole
        return Response(head.status, fold_headers(head.headers), self._received.content(), whole)

    # Refusals

    async def _refuse(self, refusal: Refusal) -> bool:
        """Records a call that got no answer from an upstream, then answers it ourselves."""
        self._sent.add(self._incoming.body.take())
        exchange = self._exchange(self._sent.content())
        exchange.failure = refusal.message
        status, _, headers, body = answer_of(refusal, self._call, self._is_form)
        exchange.response = Response(status, fold_headers(headers), body)
        try:
            await self._endpoint.recorder.record(exchange)
        except RecordRefused as error:
            self._endpoint.recorder.lose(exchange, str(error))
        self._endpoint.metrics.refused.labels("upstream").inc()
        self._write_refusal(refusal)
        return self._incoming.keep_alive and self._incoming.body.complete

    def _refuse_unread(self, bad: BadHead) -> bool:
        """Answers a request that cannot be understood; nothing of it was forwarded."""
        self._endpoint.metrics.refused.labels("bad-request").inc()
        self._write_refusal(Refusal(bad.status, "BadRequest", bad.reason))
        return False

    @property
    def _is_form(self) -> bool:
        return "form-urlencoded" in self._folded.get("content-type", "")

    def _write_refusal(self, refusal: Refusal) -> None:
        status, reason, headers, body = answer_of(refusal, self._call, self._is_form)
        self._write_answer(status, reason, headers, body)

    def _write_answer(self, status: int, reason: bytes, headers: Headers, body: bytes) -> None:
        extra: Headers = []
        if not any(name.lower() == b"content-length" for name, _ in headers):
            extra.append((b"Content-Length", b"%d" % len(body)))
        if not self._incoming.keep_alive:
            extra.append((b"Connection", b"close"))
        shown = b"" if self._incoming.head.method == b"HEAD" else body
        self._client.write(response_head(status, reason, headers, extra) + shown)


async def _run_all(actions: list[Callable[[int], Awaitable[None]]], position: int) -> None:
    for action in actions:
        await action(position)


async def _stopped(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
