"""One call: passed on or answered by opentrail's API, and recorded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from opentrail.capture.proxy.asgi import ApiCall
from opentrail.capture.proxy.bodies import BrokenOffError, Incoming
from opentrail.capture.proxy.call_context import CallContext
from opentrail.capture.proxy.channel import ClientChannel
from opentrail.capture.proxy.gate import wording_of
from opentrail.capture.proxy.head import BadHead, Headers, response_head
from opentrail.capture.proxy.refusals import (
    NoAnswer,
    Refusal,
    answer_of,
    locked_out,
    throttled,
    unavailable,
)
from opentrail.capture.proxy.upstream_exchange import UpstreamExchange
from opentrail.capture.record.exchange import Failure
from opentrail.core.errors import RecordRefused
from opentrail.wire.message import Response, fold_headers
from opentrail.wire.signature_errors import SignatureRefused

log = logging.getLogger(__name__)

_API_SERVICES = frozenset({"cloudtrail", "cloudtrail-data"})
_TARGET_SERVICES = frozenset({"cloudtrail"})
_API_TARGETS = ("com.amazonaws.cloudtrail.", "CloudTrail_20131101.")
_MAX_API_BODY = 1024 * 1024
#: Bytes and seconds for which the body of a refused call is awaited.
_REST_BYTES, _REST_SECONDS = 64 * 1024, 1.0


class RequestHandler:
    """One call of one client connection."""

    def __init__(self, client: ClientChannel, incoming: Incoming) -> None:
        self._client = client
        self._endpoint = client.endpoint
        self._incoming = incoming
        endpoint = self._endpoint
        self._context = CallContext(
            incoming,
            endpoint.router,
            endpoint.clock,
            client.source_ip,
            client.tls,
            endpoint.networks,
        )

    async def run(self) -> bool:
        """Answers the call; returns whether the connection may be used again."""
        incoming = self._incoming
        if incoming.bad is not None:
            return self._refuse_unread(incoming.bad)
        self._context.look_at_head()
        recorder = self._endpoint.recorder
        if recorder.failure:
            self._endpoint.metrics.refused.labels("journal").inc()
            self._write_refusal(unavailable(f"the call cannot be recorded: {recorder.failure}"))
            return False
        if recorder.overloaded:
            refusal = throttled(self._context.call, self._context.is_form)
            return self._turn_away(refusal, "overload")
        if self._is_locked_out():
            return self._turn_away(
                locked_out(self._context.call, self._context.is_form), "signature"
            )
        try:
            self._refuse_doubtful_claim()
            if self._is_for_api():
                return await self._answer_by_api()
            if self._endpoint.gate is not None:
                self._admit(incoming.body.peek() if incoming.body.complete else None)
            return await self._forward()
        except SignatureRefused as refused:
            return await self._refuse_signature(refused)

    async def _forward(self) -> bool:
        """Passes the call on and records it."""
        exchange = UpstreamExchange(self._client, self._incoming, self._context)
        try:
            return await exchange.run()
        except SignatureRefused:
            raise
        except NoAnswer as error:
            if not error.settled:
                return await self._refuse(error.refusal)
            if not self._client.lost:
                self._write_refusal(error.refusal)
            return False
        except Exception:  # the call is recorded in any case
            log.exception("a call failed", extra={"eventID": self._context.event_id})
            if exchange.answering:
                self._client.abort_transport()
            else:
                reason = "the call could not be passed on"
                await self._refuse(Refusal(500, "InternalFailure", reason))
            return False

    def _turn_away(self, refusal: Refusal, kind: str) -> bool:
        """Answers a call with an error and without a record; `kind` is what it is counted as."""
        self._endpoint.metrics.refused.labels(kind).inc()
        self._write_refusal(refusal)
        return self._incoming.keep_alive and self._incoming.body.complete

    def _is_for_api(self) -> bool:
        credential = self._context.credential
        if credential is not None and credential.service is not None:
            return credential.service in _API_SERVICES
        return self._context.folded.get("x-amz-target", "").startswith(_API_TARGETS)

    # Signatures

    def _is_locked_out(self) -> bool:
        gate, context = self._endpoint.gate, self._context
        return gate is not None and gate.is_closed_to(context.credential, context.source_ip)

    def _refuse_doubtful_claim(self) -> None:
        """Refuses a claim of two readings, verified or not: the record would have one of them.

        Raises:
            SignatureRefused: there is one.
        """
        refused = self._context.refused_claim
        if refused is not None:
            raise wording_of(self._context.claim()).refusal(refused.problem, **refused.details)

    def _admit(self, body: bytes | None, own_services: frozenset[str] | None = None) -> None:
        """Verifies the caller as far as the request has come; `body` is the whole body.

        Raises:
            SignatureRefused: the caller is not who the request claims.
        """
        gate, context = self._endpoint.gate, self._context
        if gate is None:
            return
        context.admission = admission = gate.admit(context.claim(own_services))
        if body is not None:
            admission.feed(body)
            admission.finish()

    async def _refuse_signature(self, refused: SignatureRefused) -> bool:
        context, gate = self._context, self._endpoint.gate
        context.is_refused = True
        if gate is not None:
            gate.count_failure(context.credential, context.source_ip)
        refusal = Refusal(refused.status, refused.code, refused.message)
        return await self._refuse(refusal, "signature")

    def _own_services(self) -> frozenset[str]:
        """Returns the names that a signature of a call of opentrail's API may be made for."""
        if self._context.folded.get("x-amz-target", "").startswith(_API_TARGETS):
            return _TARGET_SERVICES
        return _API_SERVICES

    # opentrail's API

    async def _answer_by_api(self) -> bool:
        try:
            body = await self._whole_body()
        except BrokenOffError as error:
            return await self._refuse(Refusal(400, error.failure.code, error.failure.message))
        if body is None:
            reason = f"body is larger than {_MAX_API_BODY} bytes"
            return await self._refuse(Refusal(413, "RequestEntityTooLarge", reason))
        self._admit(body, self._own_services())
        context, recorder = self._context, self._endpoint.recorder
        if context.folded.get("expect", "").lower() == "100-continue":
            context.folded.pop("expect")
        exchange = context.exchange(body)
        exchange.origin = "api"
        identity = None
        account, region = recorder.caller(exchange)
        if context.credential is not None:
            identity = recorder.identity(context.credential.access_key_id)
        flaw = context.credential.flaw if context.credential is not None else None
        api_call = ApiCall(context.event_id, identity, account, region, context.source_ip, flaw)
        api_call.secure = self._client.tls is not None
        if context.admission is not None and (caller := context.admission.caller) is not None:
            api_call.signature, api_call.valid_until = caller.signature, caller.valid_until
        head = self._incoming.head
        ask = self._endpoint.answer_api_call
        answer = await ask(head.method, head.target, head.headers, body, api_call)
        exchange.response = Response(answer.status, fold_headers(answer.headers), answer.body)
        exchange.completed_at = self._endpoint.clock.now()
        exchange.bytes_out = len(answer.body)
        try:
            position = await recorder.record(exchange)
        except RecordRefused as error:
            # The call took effect; its effects count from here on, although it has no record.
            position = recorder.lose(exchange, str(error))
            if recorder.refuse:
                await _run_all(api_call.when_recorded, position)
                self._write_refusal(unavailable(f"the call cannot be recorded: {error}"))
                return False
        await _run_all(api_call.when_recorded, position)
        self._write_answer(
            answer.status, b"OK" if answer.status == 200 else b"", answer.headers, answer.body
        )
        return self._incoming.keep_alive

    async def _whole_body(self) -> bytes | None:
        """Returns the request's body, None if it is too large for opentrail's API."""
        self._client.ask_to_continue(self._incoming)
        sent = self._context.sent
        while piece := await self._incoming.body.next():
            sent.add(piece)
            if sent.length > _MAX_API_BODY:
                return None
        return sent.content()

    # Refusals

    async def _refuse(self, refusal: Refusal, kind: str = "upstream") -> bool:
        """Records a call without an answer of an upstream, then answers it with an error.

        `kind` is the label under which it is counted.
        """
        context, recorder = self._context, self._endpoint.recorder
        await self._take_rest_of_body()
        failure = Failure(refusal.code, refusal.message)
        exchange = context.exchange(context.sent.content(), failure)
        status, _, headers, body = answer_of(refusal, context.call, context.is_form)
        exchange.response = Response(status, fold_headers(headers), body)
        try:
            await recorder.record(exchange)
        except RecordRefused as error:
            recorder.lose(exchange, str(error))
        self._endpoint.metrics.refused.labels(kind).inc()
        self._write_refusal(refusal)
        return self._incoming.keep_alive and self._incoming.body.complete

    async def _take_rest_of_body(self) -> None:
        """Waits briefly for a small body, which may name the operation that is refused."""
        body, sent = self._incoming.body, self._context.sent
        sent.add(body.take())
        if body.complete or self._context.folded.get("expect"):
            return  # a client that asks whether to continue sends nothing before the answer
        try:
            async with asyncio.timeout(_REST_SECONDS):
                while sent.length <= _REST_BYTES and (piece := await body.next()):
                    sent.add(piece)
        except (TimeoutError, ConnectionError):
            return

    def _refuse_unread(self, bad: BadHead) -> bool:
        """Answers a malformed request; nothing of it was passed on."""
        self._endpoint.metrics.refused.labels("bad-request").inc()
        self._write_refusal(Refusal(bad.status, "BadRequest", bad.reason))
        return False

    def _write_refusal(self, refusal: Refusal) -> None:
        context = self._context
        status, reason, headers, body = answer_of(refusal, context.call, context.is_form)
        self._write_answer(status, reason, headers, body)

    def _write_answer(self, status: int, reason: bytes, headers: Headers, body: bytes) -> None:
        extra: Headers = []
        if not any(name.lower() == b"content-length" for name, _ in headers):
            extra.append((b"Content-Length", b"%d" % len(body)))
        if not self._incoming.keep_alive or not self._incoming.body.complete:
            extra.append((b"Connection", b"close"))
        shown = b"" if self._incoming.head.method == b"HEAD" else body
        self._client.write(response_head(status, reason, headers, extra) + shown)


async def _run_all(actions: list[Callable[[int], Awaitable[None]]], position: int) -> None:
    for action in actions:
        await action(position)
