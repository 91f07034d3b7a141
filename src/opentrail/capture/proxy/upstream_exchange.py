"""A call's request to its upstream and the answer back, whose end waits for the record."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from functools import partial
from typing import Any

import orjson

from opentrail.capture.proxy.asgi import ApiCall
from opentrail.capture.proxy.bodies import BrokenOffError, Flow, Framing, Incoming, StoredBody
from opentrail.capture.proxy.call_context import CallContext
from opentrail.capture.proxy.channel import ClientChannel
from opentrail.capture.proxy.gate import Admission
from opentrail.capture.proxy.head import (
    LAST_CHUNK,
    Head,
    Headers,
    chunk,
    interim_head,
    request_head,
    response_head,
    with_forwarded,
)
from opentrail.capture.proxy.policy_templates import head_of, lacks_bucket, template_for
from opentrail.capture.proxy.refusals import NoAnswer, Refusal, unavailable
from opentrail.capture.proxy.resigning import resigned
from opentrail.capture.proxy.trail_tags import TrailTags, concerns_trails
from opentrail.capture.proxy.tunnel import WEBSOCKET, join, wants_websocket
from opentrail.capture.proxy.upstream import AnswerHead, Upstream, UpstreamConnection
from opentrail.capture.record.exchange import GONE, Failure
from opentrail.capture.record.rules import answers_urls
from opentrail.core.errors import RecordRefused
from opentrail.wire.message import Response, fold_headers
from opentrail.wire.resign import ChunkSigner, UpstreamCredentials
from opentrail.wire.routing import Call
from opentrail.wire.signature_errors import SignatureRefused

#: With `refuse`, bytes of an answer that are held until its record is durable.
HOLD_BYTES = 64 * 1024
#: The end of a longer answer that is held until then.
HOLD_TAIL_BYTES = 4 * 1024
#: Longer answers are not searched for URLs of the endpoint.
MAX_REWRITTEN = 1024 * 1024
#: Interim answers (1xx) to one call.
MAX_INTERIM = 100
_API_TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"
#: Headers with checksums of the body.
_CHECKSUMS = frozenset({b"content-md5", b"x-amz-crc32"})
_STREAMS = ("application/vnd.amazon.eventstream", "text/event-stream")
_CUT_OFF = Failure("ServiceUnavailable", "cut off by the end of the server")
_SWITCHED: Headers = [(b"Connection", b"Upgrade"), (b"Upgrade", WEBSOCKET)]


class UpstreamExchange:
    """Passes one call to its upstream, and the answer back."""

    def __init__(self, client: ClientChannel, incoming: Incoming, context: CallContext) -> None:
        self._client = client
        self._endpoint = client.endpoint
        self._incoming = incoming
        self._context = context
        self._switches = "upgrade" in context.folded and wants_websocket(incoming.head)
        self._body: bytes | None = None
        self._chunks: ChunkSigner | None = None
        self._wrote_head = self._sent_head = self._recorded = False
        #: The piece of the body that is passed on only once the next is known to be signed.
        self._held = b""
        self._refused: SignatureRefused | None = None
        self._adds_trails = concerns_trails(context.call)
        #: Set to False if the answer comes before the end of the request.
        self._keeps_alive = incoming.keep_alive

    @property
    def answering(self) -> bool:
        """Whether a part of the answer has been sent."""
        return self._wrote_head

    async def run(self) -> bool:
        """Passes the call on; returns whether the connection may be used again.

        Raises:
            NoAnswer: there is no answer to pass on.
        """
        upstream = self._upstream()
        head = self._incoming.head
        if upstream.key is not None:
            head = await self._resigned(upstream, upstream.key)
        elif self._client.tls is not None:
            peer = self._client.source_ip
            head = with_forwarded(head, peer, self._endpoint.networks.trusts(peer))
        try:
            return await self._forward(upstream, head)
        except asyncio.CancelledError:
            self._record_cut_off()
            raise

    def _upstream(self) -> Upstream:
        service, credential = self._context.call.service, self._context.credential
        signed_as = credential.service if credential else None
        upstream = self._endpoint.upstreams.of(
            service.name if service else None, service.signing_name if service else None, signed_as
        )
        if upstream is None:
            name = service.name if service else "this call"
            raise NoAnswer(Refusal(502, "BadGateway", f"no upstream for {name}"))
        # The name of an unknown service becomes part of a host name only without its dots.
        prefix = service.endpoint_prefix if service else (signed_as or "").replace(".", "_")
        region = (credential.region if credential else None) or "us-east-1"
        try:
            return upstream.for_call(prefix or "s3", region)
        except ValueError as error:
            raise NoAnswer(Refusal(400, "BadRequest", str(error))) from error

    async def _resigned(self, upstream: Upstream, key: UpstreamCredentials) -> Head:
        """Returns the head for an upstream that checks signatures over its own host name."""
        try:
            call = await resigned(self._client, self._incoming, self._context, upstream, key)
        except BrokenOffError as error:
            await self._record_broken(error.failure)
            raise NoAnswer(_refusal_of(error.failure), settled=True) from error
        self._body, self._chunks = call.body, call.chunks
        return call.head

    # The request

    async def _forward(self, upstream: Upstream, head: Head) -> bool:
        try:
            connection, reused = await self._client.upstreams.acquire(upstream)
        except TimeoutError:
            reason = f"upstream {upstream.url} did not accept a connection in time"
            raise NoAnswer(Refusal(504, "GatewayTimeout", reason)) from None
        except OSError as error:
            reason = f"upstream {upstream.url} cannot be reached: {error.strerror or error}"
            raise NoAnswer(Refusal(502, "BadGateway", reason)) from error
        answer = connection.begin(head.method == b"HEAD")
        switching = _SWITCHED if self._switches else []
        first = request_head(head, self._incoming.chunked, switching)
        self._sent_head = True
        sending = self._start_sending(connection, first)
        try:
            answered = await self._final_head(connection)
        except (ConnectionError, TimeoutError) as error:
            connection.close()
            await _stopped(sending)
            if reused and self._may_repeat(error):
                return await self._forward(upstream, head)
            return await self._no_answer(error, sending)
        except asyncio.CancelledError:
            connection.close()
            raise
        if answered.status == 101:
            return await self._tunnel(connection, answered)
        whole_request = sending is None or sending.done()
        self._keeps_alive = self._keeps_alive and whole_request
        try:
            alive = await self._pass_answer(answered, answer, connection)
        except BaseException:
            connection.close()
            await _stopped(sending)
            raise
        if not whole_request:
            await _stopped(sending)
        if sending is not None and not whole_request:
            connection.close()
            return False
        self._client.upstreams.release(upstream, connection)
        return alive

    def _may_repeat(self, error: Exception) -> bool:
        """Returns whether to send a read again: its connection may have been closed while idle."""
        call = self._context.call
        safe = self._incoming.head.method in (b"GET", b"HEAD") and not self._context.sent.length
        # A GET that is not a known REST operation may have side effects.
        safe = safe and call.operation is not None and call.protocol in ("rest-json", "rest-xml")
        return safe and isinstance(error, ConnectionError) and not self._client.lost

    def _start_sending(
        self, connection: UpstreamConnection, head: bytes
    ) -> asyncio.Task[None] | None:
        """Sends the head and the body; one that has not come yet is sent by the returned task."""
        whole = self._body
        if whole is None and self._incoming.body.complete:
            whole = self._incoming.body.take()
        if whole is None:
            connection.write(head)
            sending = asyncio.get_running_loop().create_task(self._send_body(connection))
            sending.add_done_callback(_note_exception)
            return sending
        if self._body is None:
            self._context.sent.add(whole)
        try:
            self._verify_whole(whole)
        except SignatureRefused:
            connection.close()
            raise
        try:
            body = self._chunks.feed(whole) if self._chunks else whole
            if self._chunks is not None:
                self._chunks.finish()
        except ValueError as error:
            connection.close()
            raise NoAnswer(Refusal(400, "BadRequest", str(error))) from error
        if self._incoming.chunked:
            body = (chunk(body) if body else b"") + LAST_CHUNK
        connection.write(head + body)
        return None

    def _verify_whole(self, body: bytes) -> None:
        """Verifies a body that had not come when the call was admitted."""
        admission = self._context.admission
        if admission is not None and not admission.is_done:
            admission.feed(body)
            admission.finish()

    async def _send_body(self, connection: UpstreamConnection) -> None:
        admission = self._context.admission
        next_piece = self._incoming.body.next
        if admission is not None and not admission.is_done:
            next_piece = partial(self._next_verified, admission)
        try:
            while piece := await next_piece():
                self._send_piece(connection, piece)
                await connection.drain()
                self._client.extend_answer_deadline()
            self._finish_chunks()
        except ConnectionError:
            # The client has gone; its request cannot be completed.
            connection.close()
            raise
        except SignatureRefused as refused:
            self._refused, self._context.is_refused = refused, True
            self._context.sent.add(self._held)  # the record names what was asked for
            connection.close()
            return
        if self._incoming.chunked:
            connection.write(LAST_CHUNK)

    async def _next_verified(self, admission: Admission) -> bytes:
        """Returns the next piece of the body; the last one only once all of it is verified."""
        while piece := await self._incoming.body.next():
            admission.feed(piece)
            held, self._held = self._held, piece
            if held:
                return held
        admission.finish()
        held, self._held = self._held, b""
        return held

    def _finish_chunks(self) -> None:
        try:
            if self._chunks is not None:
                self._chunks.finish()
        except ValueError as error:
            self._incoming.body.break_off(Failure("BadRequest", str(error)))
            raise ConnectionError(str(error)) from error

    def _send_piece(self, connection: UpstreamConnection, piece: bytes) -> None:
        self._context.sent.add(piece)
        if self._chunks is not None:
            try:
                piece = self._chunks.feed(piece)
            except ValueError as error:
                self._incoming.body.break_off(Failure("BadRequest", str(error)))
                raise ConnectionError(str(error)) from error
        if piece:
            connection.write(chunk(piece) if self._incoming.chunked else piece)

    # The answer

    async def _final_head(self, connection: UpstreamConnection) -> AnswerHead:
        for _ in range(MAX_INTERIM + 1):
            self._client.await_answer(connection)
            try:
                head = await connection.next_head()
            finally:
                self._client.await_answer(None)
            if head.status == 101:
                if self._switches and connection.raw is not None:
                    return head
                raise ConnectionError("upstream switched to a protocol that was not asked for")
            if not 100 <= head.status < 200:
                return head
            await self._pass_interim(head)
        raise ConnectionError(f"upstream sent more than {MAX_INTERIM} interim answers")

    async def _pass_interim(self, head: AnswerHead) -> None:
        """Passes on what an upstream says before its answer, if the client can make use of it."""
        if head.status == 100:
            self._client.ask_to_continue(self._incoming)
        elif self._incoming.head.version != "1.0":
            self._client.write(interim_head(head.status, head.reason, head.headers))
            await self._client.drain()

    async def _no_answer(self, error: Exception, sending: asyncio.Task[None] | None) -> bool:
        """Records and answers a call whose upstream gave no answer."""
        if self._refused is not None:
            raise self._refused
        if sending is not None and self._incoming.body.broken is not None:
            await self._record_broken(self._incoming.body.broken)
            raise NoAnswer(_refusal_of(self._incoming.body.broken), settled=True)
        if isinstance(error, TimeoutError):
            raise NoAnswer(Refusal(504, "GatewayTimeout", "the upstream did not answer"))
        raise NoAnswer(Refusal(502, "BadGateway", str(error)))

    async def _tunnel(self, connection: UpstreamConnection, head: AnswerHead) -> bool:
        """Records the handshake, then passes bytes both ways until one side ends."""
        refused = await self._record(Response(101, head.folded))
        if refused is not None:
            connection.close()
            raise NoAnswer(refused, settled=True)
        self._client.write(response_head(101, head.reason, head.headers, _SWITCHED))

        async def to_upstream(piece: bytes) -> None:
            connection.write(piece)
            await connection.drain()

        async def to_client(piece: bytes) -> None:
            self._client.write(piece)
            await self._client.drain()

        self._client.tunnelling = True
        from_client, from_upstream = self._client.raw, connection.raw
        if from_client is not None and from_upstream is not None:
            await join(from_client, from_upstream, to_upstream, to_client)
        connection.close()
        return False

    async def _pass_answer(
        self, head: AnswerHead, answer: Flow, connection: UpstreamConnection
    ) -> bool:
        """Passes the answer on; with `refuse` its end waits until the record is durable."""
        context = self._context
        context.drop_unrecorded_answer(head)
        framing = self._framing(head)
        template = template_for(context.call, head.status)
        hold, tail = (HOLD_BYTES, 0) if template else self._how_much_to_hold(head)
        held = b""
        self._client.begin_answer(answer)
        next_piece = self._rewritten if self._rewrites(head) else self._next_piece
        if self._adds_trails and "content-encoding" not in head.folded:
            next_piece = self._with_trails
        try:
            while piece := await next_piece(head, answer, connection):
                context.received.add(piece)
                held = held + piece if held else piece
                if len(held) > hold:
                    # Only the tail of a long answer is held.
                    cut = len(held) - tail
                    await self._write_part(head, framing, [framing.piece(held[:cut])])
                    held, hold = held[cut:], tail
                if self._client.lost and context.received.length > HOLD_BYTES:
                    answer.fail(GONE)
        except BrokenOffError as error:
            failure = self._incoming.body.broken or error.failure
            if self._client.lost:
                connection.close()
                await self._record_broken(failure, self._without_body(head))
                return False
            return await self._broken_answer(head, failure, connection.is_silent)
        finally:
            self._client.end_answer()
        if template is not None and lacks_bucket(held) and not self._wrote_head:
            head, held = head_of(template, head), template
            framing, context.received = self._framing(head), StoredBody(True)
            context.received.add(held)
        return await self._finish_answer(head, framing, held)

    def _rewrites(self, head: AnswerHead) -> bool:
        """Returns whether URLs of the endpoint in this answer must get the client's scheme."""
        is_asked = self._endpoint.rewrites_urls and self._client.tls is not None
        return is_asked and has_urls(self._context.call, head)

    async def _rewritten(
        self, head: AnswerHead, answer: Flow, connection: UpstreamConnection
    ) -> bytes:
        """Returns the whole body with the client's scheme; a long one unchanged."""
        pieces: list[bytes] = []
        while piece := await self._next_piece(head, answer, connection):
            pieces.append(piece)
            if self._wrote_head or sum(map(len, pieces)) > MAX_REWRITTEN:
                return b"".join(pieces)
        if not pieces:
            return b""
        return with_https(self._context.folded.get("host", ""), head, b"".join(pieces))

    async def _with_trails(
        self, head: AnswerHead, answer: Flow, connection: UpstreamConnection
    ) -> bytes:
        """Returns the whole body with what opentrail knows of trails; a long one unchanged."""
        pieces: list[bytes] = []
        while piece := await self._next_piece(head, answer, connection):
            pieces.append(piece)
            if not self._adds_trails or sum(map(len, pieces)) > MAX_REWRITTEN:
                break
        body = b"".join(pieces)
        if not self._adds_trails or len(body) > MAX_REWRITTEN:
            self._adds_trails = False
            return body
        self._adds_trails = False
        merged = await self._merged(head.status, body)
        if merged is None:
            return body
        head.status, body = merged
        head.reason = b"OK"
        head.headers = [
            (key, b"%d" % len(body) if key.lower() == b"content-length" else value)
            for key, value in head.headers
            if key.lower() not in _CHECKSUMS
        ]
        head.folded = fold_headers(head.headers)
        return body

    async def _merged(self, status: int, body: bytes) -> tuple[int, bytes] | None:
        """Returns the answer with trails, None if nothing is known of the caller or of trails."""
        context, recorder = self._context, self._endpoint.recorder
        credential, admission = context.credential, context.admission
        if credential is None or (admission is not None and admission.caller is None):
            return None
        asked = context.sent.peek()
        account, region = recorder.caller(context.exchange(asked))
        identity = recorder.identity(credential.access_key_id)

        async def ask(operation: str, given: dict[str, Any]) -> tuple[int, dict[str, Any]]:
            call = ApiCall(context.event_id, identity, account, region, context.source_ip)
            call.secure = self._client.tls is not None
            target = f"{_API_TARGET}.{operation}".encode()
            headers = [(b"x-amz-target", target), (b"content-type", b"application/x-amz-json-1.1")]
            agent = context.folded.get("user-agent", "").encode("latin-1", "replace")
            answer = await self._endpoint.answer_api_call(
                b"POST", b"/", [*headers, (b"user-agent", agent)], orjson.dumps(given), call
            )
            return answer.status, orjson.loads(answer.body)

        return await TrailTags(ask, region).merged(
            context.call.operation or "", asked, status, body
        )

    async def _next_piece(
        self, _head: AnswerHead, answer: Flow, connection: UpstreamConnection
    ) -> bytes:
        if (piece := answer.take()) or answer.complete:
            return piece
        self._client.await_answer(connection)
        try:
            return await answer.next()
        finally:
            self._client.await_answer(None)

    def _how_much_to_hold(self, head: AnswerHead) -> tuple[int, int]:
        """Returns the bytes of an answer that are held, and those of a longer one's end."""
        if not self._endpoint.recorder.refuse:
            return 0, 0
        # Events of a stream are passed on immediately; its last chunk waits for the record.
        endless = "content-length" not in head.folded
        streams = endless and head.folded.get("content-type", "").startswith(_STREAMS)
        return (0, 0) if streams else (HOLD_BYTES, HOLD_TAIL_BYTES)

    async def _finish_answer(self, head: AnswerHead, framing: Framing, held: bytes) -> bool:
        last = [framing.piece(held)] if held else []
        response = self._context.response(head.status, head.folded)
        if not self._endpoint.recorder.refuse:
            await self._write_part(head, framing, [*last, framing.end])
            await self._record(response)
            return framing.keep_alive
        refused = await self._record(response)
        if refused is not None:
            if not self._wrote_head:
                raise NoAnswer(refused, settled=True)
            self._client.abort_transport()
            return False
        if not self._wrote_head and framing.unframed:
            framing.set_length(len(held))
        await self._write_part(head, framing, [*last, framing.end])
        return framing.keep_alive

    async def _record(self, response: Response) -> Refusal | None:
        """Returns None once the record is durable or, with `allow`, has been started."""
        recorder, self._recorded = self._endpoint.recorder, True
        # An upstream may answer a request whose end never came.
        broken = self._incoming.body.broken
        exchange = self._context.exchange(self._context.sent.content(), broken)
        exchange.response = response
        if not recorder.refuse:
            recorder.record_later(exchange)
            return None
        try:
            await recorder.record(exchange)
        except RecordRefused as error:
            # The call took effect, but must not be confirmed.
            recorder.lose(exchange, str(error))
            return unavailable(f"the call could not be recorded: {error}")
        return None

    async def _broken_answer(self, head: AnswerHead, failure: Failure, is_silent: bool) -> bool:
        """Records an answer that broke off, and breaks off the client's."""
        if not self._wrote_head:
            status = 504 if is_silent else 502
            raise NoAnswer(Refusal(status, failure.code, failure.message))
        await self._record_broken(failure, self._without_body(head))
        self._client.abort_transport()
        return False

    def _without_body(self, head: AnswerHead) -> Response:
        """Returns an answer that broke off, without its body."""
        response = self._context.response(head.status, head.folded)
        return replace(response, body=b"", body_is_whole=False)

    def _record_cut_off(self) -> None:
        """Records a call that the end of the server cuts off; it may have taken effect."""
        if self._sent_head and not self._recorded:
            sent = self._context.sent.content()
            exchange = self._context.exchange(sent, _CUT_OFF)
            self._endpoint.recorder.record_later(exchange)

    async def _record_broken(self, failure: Failure, response: Response | None = None) -> None:
        recorder, self._recorded = self._endpoint.recorder, True
        exchange = self._context.exchange(self._context.sent.content(), failure)
        exchange.response = response
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
        incoming = self._incoming
        bodiless = incoming.head.method == b"HEAD" or head.status in (204, 304)
        needs_framing = not bodiless and "content-length" not in head.folded
        return Framing(
            keep_alive=self._keeps_alive,
            chunked=needs_framing and incoming.head.version != "1.0" and head.framed,
            unframed=needs_framing and (not head.framed or incoming.head.version == "1.0"),
        )


def _refusal_of(broken: Failure) -> Refusal:
    """Returns the answer to a request that broke off."""
    return Refusal(400, broken.code, broken.message)


def _note_exception(sending: asyncio.Task[None]) -> None:
    """Keeps asyncio from logging the error of a body that broke off: the record has it."""
    if not sending.cancelled():
        sending.exception()


async def _stopped(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# URLs of the endpoint in answers, for upstreams that do not know that clients use TLS


def has_urls(call: Call, head: AnswerHead) -> bool:
    """Returns whether an answer holds URLs of the endpoint, and can be rewritten."""
    if call.service is None or not answers_urls(call.service.name, call.operation or ""):
        return False
    length = head.folded.get("content-length", "0")
    is_short = length.isdigit() and int(length) <= MAX_REWRITTEN
    return is_short and "content-encoding" not in head.folded


def with_https(host: str, head: AnswerHead, body: bytes) -> bytes:
    """Returns a whole body with `https://HOST` for `http://HOST`; the head gets its new length.

    Only `host`, as the client sent it, is rewritten. In JSON the slashes may be escaped.
    """
    name = re.escape(host.encode("latin-1", "replace"))
    url = re.compile(rb"http(:\\?/\\?/)" + name + rb"(?![\w.:-])", re.I)
    changed = url.sub(lambda found: b"https" + found[1] + found[0][-len(host) :], body)
    head.headers = [
        (key, b"%d" % len(changed) if key.lower() == b"content-length" else value)
        for key, value in head.headers
        if changed == body or key.lower() not in _CHECKSUMS
    ]
    head.folded = fold_headers(head.headers)
    return changed
