"""The main road of a call, in order.

Calls of opentrail's API reach no upstream. Other calls are re-signed for an upstream that checks
signatures over its own host name.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from opentrail.capture.proxy.bodies import BrokenOffError, Flow, Framing
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.endpoint import ApiCall
from opentrail.capture.proxy.head import (
    LAST_CHUNK,
    UPGRADE,
    Head,
    chunk,
    interim_head,
    request_head,
    with_forwarded,
)
from opentrail.capture.proxy.refusals import (
    NoAnswer,
    Refusal,
    locked_out,
    throttled,
    unavailable,
    unrecorded,
)
from opentrail.capture.proxy.rewriting import change_of, rewritten
from opentrail.capture.proxy.uploads import start_upload, tunnel
from opentrail.capture.proxy.upstream import AnswerHead, Upstream, UpstreamConnection
from opentrail.capture.record.exchange import GONE, Exchange, Failure
from opentrail.core.errors import RecordRefused
from opentrail.wire.message import MAX_BODY, Response, fold_headers
from opentrail.wire.resign import (
    CannotResign,
    Original,
    Resigned,
    UpstreamCredentials,
    needs_body,
    resign,
    with_host,
)
from opentrail.wire.routing import KnownBy
from opentrail.wire.signature_errors import SignatureRefused
from opentrail.wire.signed_chunks import ChunkSigner, ChunksRefused

log = logging.getLogger(__name__)

#: With `refuse`, maximum bytes of an answer held until its record is durable.
MAX_HELD_BYTES = 64 * 1024
#: Held bytes at the end of a longer answer.
HELD_TAIL_BYTES = 4 * 1024
#: Maximum number of interim answers (1xx) to one call.
MAX_INTERIM = 100
_CUT_OFF = Failure("ServiceUnavailable", "cut off by the end of the server")


async def serve(call: Call) -> bool:  # noqa: C901 - the whole road in one place
    """Answers one call and records it; returns whether its connection may be used again.

    It waits for three things: the head of the upstream's answer, the rest of the answer, and the
    commit of the record. In a cluster, the first call of a key also waits for other servers'
    records. docs/explanation/guarantees.md has the guarantees.
    """
    client, endpoint, incoming = call.client, call.endpoint, call.incoming
    recorder = endpoint.recorder
    if (bad := incoming.bad) is not None:  # guarantees N1 and N2: ambiguous, too long or too late
        refusal = Refusal(bad.status, "BadRequest", bad.reason)
        return call.turn_away(refusal, "bad-request", is_last=True)
    try:
        call.identify()
        # 1. May it pass? The upstream has no part of it yet.
        left_out = call.choose() if endpoint.choice is not None else None
        if left_out is not None:
            pass  # it needs no record
        elif recorder.failure:  # guarantee D7
            reason = f"the call cannot be recorded: {recorder.failure}"
            return call.turn_away(unavailable(reason), "journal")
        elif recorder.overloaded:  # guarantee D16
            return call.turn_away(throttled(call.route, call.is_form), "overload")
        gate = endpoint.gate
        if gate is not None and gate.is_closed_to(call.credential, call.source_ip):  # guarantee A8
            return call.turn_away(locked_out(call.route, call.is_form), "signature")
        call.refuse_ambiguous()
        if endpoint.meet is not None and call.credential is not None:
            meeting = endpoint.meet(call.credential.access_key_id)
            if meeting is not None:
                await meeting
        if call.is_for_api:
            return await answer_by_api(call)
        await call.admit(incoming.body.peek() if incoming.body.complete else None)
        call.left_out = left_out
        address = _address_of(call)
        await _refuse_calls_for_s3(call, address)
        request = await _request_for(call, address)

        # 2. To the upstream, and the head of its answer back.
        upstream, answer, body = await _ask(call, address, request)
        if call.left_out is None and endpoint.choice is not None:
            call.choose_by_body()
        if answer.status == 101:
            await tunnel(call, upstream, answer)
            return False

        # 3. Which part of the answer leaves before the record?
        sending = call.sending
        is_sent_whole = sending is None or (sending.done() and sending.exception() is None)
        if call.left_out is None:
            call.drop_unrecorded_answer(answer)
        client.begin_answer(body)
        unsent = b""
        if change := change_of(call, address, answer):
            unsent = await rewritten(call, body, upstream, change)
            call.received.add(unsent)
        is_kept = incoming.keep_alive and is_sent_whole and not endpoint.stopping
        framing = call.framing(answer, is_kept)
        limit, tail = _bytes_to_hold(call, answer, framing)
        while piece := await client.next_piece(body, upstream):
            call.received.add(piece)
            unsent = unsent + piece if unsent else piece
            if len(unsent) > limit:
                leaving, unsent = unsent[: len(unsent) - tail], unsent[len(unsent) - tail :]
                limit = tail
                call.write_part(answer, framing, framing.piece(leaving))
                await client.drain()
            if client.lost and call.received.length > MAX_HELD_BYTES:
                body.fail(GONE)

        # 4. The record, then the end of the answer; with `allow` the answer precedes the record.
        # Guarantee D1.
        if recorder.refuse and call.left_out is None:
            if lost := await call.record(lambda: call.answered(answer)):
                # It took effect, but must not be confirmed.
                if call.is_answering:
                    client.abort_transport()
                else:
                    call.write_refusal(unrecorded(lost), is_last=True)
                return False
            if framing.unframed and not call.is_answering:
                framing.set_length(len(unsent))
        end = (framing.piece(unsent) if unsent else b"") + framing.end
        if end or not call.is_answering:
            call.write_part(answer, framing, end)
        if not recorder.refuse and call.left_out is None:
            call.record_later(answer)
        await client.drain()
        if not is_sent_whole:
            return False
        call.upstream = None
        client.upstreams.release(address, upstream)
        return framing.keep_alive
    except SignatureRefused as error:  # guarantee A2
        return await call.refuse_signature(error)
    except NoAnswer as error:
        return await call.refuse(error.refusal)
    except BrokenOffError as error:
        return await _record_broken_off(call, error.failure)
    except Exception:  # the call is recorded in any case
        log.exception("a call failed", extra={"eventID": call.event_id})
        await call.leave_upstream()
        if call.is_answering or call.is_recorded:
            client.abort_transport()
        else:
            refusal = Refusal(500, "InternalFailure", "the call could not be passed on")
            await call.refuse(refusal, is_last=True)
        return False
    finally:
        client.end_answer()
        if call.is_sent and call.left_out is not None:
            call.count_left_out()
        if call.is_sent and not call.is_recorded:  # guarantee D18: it may have taken effect
            recorder.record_later(call.exchange(call.sent.content(), _CUT_OFF))
        if call.upstream is not None:
            await call.leave_upstream()


# To the upstream


def _address_of(call: Call) -> Upstream:
    """Returns where a call is forwarded to.

    Raises:
        NoAnswer: nowhere.
    """
    service, credential = call.route.service, call.credential
    signed_as = credential.service if credential else None
    upstream = call.endpoint.upstreams.of(
        service.name if service else None, service.signing_name if service else None, signed_as
    )
    if upstream is None:
        name = service.name if service else "this call"
        raise NoAnswer(Refusal(502, "BadGateway", f"no upstream for {name}"))
    # The name of an unknown service becomes part of a host name without its dots.
    prefix = service.endpoint_prefix if service else (signed_as or "").replace(".", "_")
    region = (credential.region if credential else None) or "us-east-1"
    try:
        return upstream.for_call(prefix or "s3", region)
    except ValueError as error:
        raise NoAnswer(Refusal(400, "BadRequest", str(error))) from error


async def _refuse_calls_for_s3(call: Call, upstream: Upstream) -> None:
    """Refuses a call of another service that the upstream would carry out as one of S3.

    Raises:
        NoAnswer: it would, or its kind cannot be found out.
    """
    endpoint, route = call.endpoint, call.route
    if endpoint.takes_for_s3 is None or call.is_s3 or route.protocol in ("json", "cbor", "query"):
        return
    if not call.is_like_s3:
        return
    try:
        host = call.folded.get("host", "")
        taken = await endpoint.takes_for_s3(upstream, call.credential, host)
    except OSError as error:
        reason = f"upstream {upstream.url} cannot be reached: {error}"
        raise NoAnswer(Refusal(502, "BadGateway", reason)) from error
    if taken:
        signed_as = call.credential.service if call.credential else None
        reason = f"the upstream reads a call signed for {signed_as or 'nothing'} as a call to S3"
        raise NoAnswer(Refusal(400, "InvalidRequest", reason))


async def _request_for(call: Call, upstream: Upstream) -> UpstreamRequest:
    """Returns the request for the upstream.

    Raises:
        NoAnswer: it cannot be signed for the upstream.
        BrokenOffError: its body, needed for signing, broke off.
    """
    head, client = call.incoming.head, call.client
    key = upstream.key
    if upstream.local is not None and call.credential is not None:
        key = upstream.local.key_for(call.credential.access_key_id)
    if key is not None:
        call.refuse_unverified()
        return await resigned(call, upstream, key)
    if client.tls is not None:
        networks = call.endpoint.networks
        is_trusted = networks is not None and networks.trusts(client.source_ip)
        head = with_forwarded(head, client.source_ip, is_trusted)
    known_by = call.s3_host.known_by if call.is_s3 else KnownBy.NAME
    if known_by is KnownBy.NAME or (known_by is KnownBy.AWS and upstream.is_aws):
        return UpstreamRequest(head)
    # The upstream may read the host in another way than the record, but each reads path style.
    return UpstreamRequest(_with(head, with_host(_original(call, upstream, head))))


async def _ask(
    call: Call, address: Upstream, request: UpstreamRequest
) -> tuple[UpstreamConnection, AnswerHead, Flow]:
    """Sends a request; returns the connection, and head and body of the answer.

    Raises:
        NoAnswer: there is no answer to pass on.
        SignatureRefused: the body differs from the signed one.
        BrokenOffError: the client broke its request off.
    """
    while True:
        upstream, was_idle = await _connection_to(call, address)
        body = upstream.begin(request.head.method == b"HEAD")
        call.upstream, call.is_sent = upstream, True
        await _send(call, upstream, request)
        try:
            call.answer = await _answer_head(call, upstream)
            return upstream, call.answer, body
        except (ConnectionError, TimeoutError) as error:
            upload = call.sending
            await call.leave_upstream()
            if was_idle and _may_repeat(call, error):
                continue
            if upload is not None and not upload.cancelled():
                failure = upload.exception()
                if failure is not None and not isinstance(failure, ConnectionError):
                    raise failure from error
            if upload is not None and call.incoming.body.broken is not None:
                raise BrokenOffError(call.incoming.body.broken) from error
            if isinstance(error, TimeoutError):
                late = Refusal(504, "GatewayTimeout", "the upstream did not answer")
                raise NoAnswer(late) from error
            raise NoAnswer(Refusal(502, "BadGateway", str(error))) from error


async def _connection_to(call: Call, upstream: Upstream) -> tuple[UpstreamConnection, bool]:
    """Returns a connection, and whether it has served a call before.

    Raises:
        NoAnswer: the upstream cannot be reached.
    """
    try:
        return await call.client.upstreams.acquire(upstream)
    except TimeoutError:
        reason = f"upstream {upstream.url} did not accept a connection in time"
        raise NoAnswer(Refusal(504, "GatewayTimeout", reason)) from None
    except OSError as error:
        reason = f"upstream {upstream.url} cannot be reached: {error.strerror or error}"
        raise NoAnswer(Refusal(502, "BadGateway", reason)) from error


async def _send(call: Call, upstream: UpstreamConnection, request: UpstreamRequest) -> None:
    """Sends a request; a body that has not arrived yet follows as an upload.

    Raises:
        SignatureRefused: the body differs from the signed one.
        NoAnswer: its chunks cannot be signed.
    """
    incoming, body = call.incoming, request.body
    head = request_head(request.head, incoming.chunked, UPGRADE if call.asks_for_websocket else [])
    if body is None:
        if not incoming.body.complete:
            if call.left_out is not None:
                call.count_left_out()
            upstream.write(head)
            start_upload(call, upstream, request.chunks)
            return
        body = incoming.body.take()
        call.sent.add(body)
    await call.verify_body(body)
    if request.chunks is not None:
        try:
            body = request.chunks.resign(body)
            request.chunks.finish()
        except ChunksRefused as error:
            raise NoAnswer(Refusal(400, "BadRequest", str(error))) from error
    if incoming.chunked:
        body = (chunk(body) if body else b"") + LAST_CHUNK
    if call.left_out is not None:
        call.count_left_out()
    upstream.write(head + body)


def _may_repeat(call: Call, error: Exception) -> bool:
    """Returns whether to send a read again: the connection may have been closed while idle."""
    route = call.route
    is_safe = call.incoming.head.method in (b"GET", b"HEAD") and not call.sent.length
    # A GET of an unknown REST operation may have side effects.
    is_safe = (
        is_safe and route.operation is not None and route.protocol in ("rest-json", "rest-xml")
    )
    return is_safe and isinstance(error, ConnectionError) and not call.client.lost


async def _answer_head(call: Call, upstream: UpstreamConnection) -> AnswerHead:
    """Returns the head of the answer; interim answers are passed on.

    Raises:
        ConnectionError: the upstream broke off, or its answer is not HTTP.
        TimeoutError: it did not answer in time.
    """
    client = call.client
    for _ in range(MAX_INTERIM + 1):
        client.await_answer(upstream)
        try:
            head = await upstream.next_head()
        finally:
            client.await_answer(None)
        if head.status == 101:
            if call.asks_for_websocket and upstream.raw is not None:
                return head
            raise ConnectionError("upstream switched to a protocol that was not asked for")
        if not 100 <= head.status < 200:
            return head
        if head.status == 100:
            client.ask_to_continue(call.incoming)
        elif call.incoming.head.version != "1.0":
            client.write(interim_head(head.status, head.reason, head.headers))
            await client.drain()
    raise ConnectionError(f"upstream sent more than {MAX_INTERIM} interim answers")


# The answer


def _bytes_to_hold(call: Call, answer: AnswerHead, framing: Framing) -> tuple[int, int]:
    """Returns the held bytes of an answer, and the bytes at the end of a longer one."""
    if not call.endpoint.recorder.refuse or call.left_out is not None:
        return 0, 0
    # Events of a stream are passed on immediately; its last chunk waits for the record.
    if framing.chunked and answer.is_event_stream:
        return 0, 0
    return MAX_HELD_BYTES, HELD_TAIL_BYTES


async def _record_broken_off(call: Call, failure: Failure) -> bool:
    """Records a call broken off by either side, without the answer's body; ends the connection."""
    client, answer = call.client, call.answer
    failure = call.incoming.body.broken or failure
    is_silent = call.upstream is not None and call.upstream.is_silent
    await call.leave_upstream()
    if answer is not None and not call.is_answering and not client.lost:
        refusal = Refusal(504 if is_silent else 502, failure.code, failure.message)
        return await call.refuse(refusal)

    def broken_off() -> Exchange:
        exchange = call.exchange(call.sent.content(), failure)
        if answer is not None:
            exchange.response = Response(answer.status, answer.folded, body_is_whole=False)
        return exchange

    await call.record(broken_off)
    if answer is not None:
        client.abort_transport()
    elif not client.lost:
        call.write_refusal(Refusal(400, failure.code, failure.message), is_last=True)
    return False


_MAX_BODY = 1024 * 1024


async def answer_by_api(call: Call) -> bool:
    """Answers a call of opentrail's API; returns whether its connection may be used again.

    Raises:
        SignatureRefused: the caller is not the claimed one.
        NoAnswer: the request is too large.
        BrokenOffError: the client broke it off.
    """
    call.origin = "api"
    body = await call.whole_body(_MAX_BODY)
    await call.admit(body, call.api_services)
    endpoint, recorder = call.endpoint, call.endpoint.recorder
    if call.folded.get("expect", "").lower() == "100-continue":
        call.folded.pop("expect")
    exchange = call.exchange(body)
    api_call = _api_call(call, *recorder.caller(exchange))
    head = call.incoming.head
    # From here on it may take effect, and is recorded in any case (guarantee D18).
    call.is_sent = True
    answer = await endpoint.answer_api_call(head.method, head.target, head.headers, body, api_call)
    exchange.response = Response(answer.status, fold_headers(answer.headers), answer.body)
    exchange.completed_at = endpoint.clock.now()
    exchange.bytes_out = len(answer.body)
    call.is_recorded = True
    lost = None
    try:
        position = await recorder.record(exchange)
    except RecordRefused as error:
        # The call took effect; its effects count from here on, although it has no record.
        position, lost = recorder.position, str(error)
        api_call.is_lost = True
    for action in api_call.when_recorded:
        await action(position)
    if lost is not None and recorder.refuse:
        call.write_refusal(unrecorded(lost))
        return call.incoming.keep_alive
    phrase = b"OK" if answer.status == 200 else b""
    call.write_answer(answer.status, phrase, answer.headers, answer.body)
    return call.incoming.keep_alive


def _api_call(call: Call, account: str, region: str) -> ApiCall:
    credential, identity = call.credential, None
    if credential is not None:
        identity = call.endpoint.recorder.identity(credential.access_key_id)
    flaw = credential.flaw if credential is not None else None
    api_call = ApiCall(call.event_id, identity, account, region, call.source_ip, flaw)
    api_call.secure = call.client.tls is not None
    if call.admission is not None and (caller := call.admission.caller) is not None:
        api_call.signature, api_call.valid_until = caller.signature, caller.valid_until
    return api_call


@dataclass(frozen=True, slots=True)
class UpstreamRequest:
    """A request for the upstream.

    `body` is set if signing required reading it; `chunks` signs the chunks of an upload.
    """

    head: Head
    body: bytes | None = None
    chunks: ChunkSigner | None = None


async def resigned(call: Call, upstream: Upstream, key: UpstreamCredentials) -> UpstreamRequest:
    """Returns a call re-signed with the key; an unsigned call only gets another host.

    Raises:
        NoAnswer: it cannot be re-signed.
        BrokenOffError: the client broke off a body needed for signing.
    """
    head, credential = call.incoming.head, call.credential
    original = _original(call, upstream, head)
    if credential is None or credential.method == "HTMLForm":
        return UpstreamRequest(_with(head, with_host(original)))
    body = await call.whole_body(MAX_BODY) if needs_body(original) else None
    try:
        signed = resign(original, key, body, call.endpoint.clock.now())
    except CannotResign as error:
        raise NoAnswer(Refusal(error.status, error.code, str(error))) from error
    return UpstreamRequest(
        _with(head, signed, without_expect=body is not None), body, signed.chunks
    )


def _original(call: Call, upstream: Upstream, head: Head) -> Original:
    path, query = call.path_and_query
    return Original(
        call.method,
        path,
        query,
        head.headers,
        call.folded,
        call.credential,
        upstream.authority,
        call.bucket_in_host if call.is_s3 else None,
    )


def _with(head: Head, signed: Resigned, without_expect: bool = False) -> Head:
    headers = signed.headers
    if without_expect:
        headers = [pair for pair in headers if pair[0].lower() != b"expect"]
    return Head(head.method, signed.target, head.version, headers)
