"""Calls of opentrail's API, which no upstream sees."""

from __future__ import annotations

from opentrail.capture.proxy.asgi import ApiCall
from opentrail.capture.proxy.call import Call
from opentrail.capture.proxy.refusals import unrecorded
from opentrail.core.errors import RecordRefused
from opentrail.wire.message import Response, fold_headers

_MAX_BODY = 1024 * 1024


async def answer_by_api(call: Call) -> bool:
    """Answers a call of opentrail's API; returns whether its connection may be used again.

    Raises:
        SignatureRefused: the caller is not who the request claims.
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
    # From here on it may have its effect, and is recorded in any case (guarantee D18).
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
        return False
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
