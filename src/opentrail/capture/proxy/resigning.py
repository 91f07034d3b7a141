"""Re-signing of a call for an upstream that checks signatures over its own host name."""

from __future__ import annotations

from dataclasses import dataclass

from opentrail.capture.proxy.bodies import Incoming
from opentrail.capture.proxy.call_context import CallContext
from opentrail.capture.proxy.channel import ClientChannel
from opentrail.capture.proxy.head import Head
from opentrail.capture.proxy.refusals import NoAnswer, Refusal
from opentrail.capture.proxy.upstream import Upstream
from opentrail.wire.message import MAX_BODY
from opentrail.wire.resign import (
    CannotResign,
    ChunkSigner,
    Original,
    Resigned,
    UpstreamCredentials,
    needs_body,
    resign,
    with_host,
)


@dataclass(frozen=True, slots=True)
class ResignedCall:
    """A call for the upstream; `body` is set if it had to be read, `chunks` re-signs an upload."""

    head: Head
    body: bytes | None = None
    chunks: ChunkSigner | None = None


async def resigned(
    client: ClientChannel,
    incoming: Incoming,
    context: CallContext,
    upstream: Upstream,
    key: UpstreamCredentials,
) -> ResignedCall:
    """Returns a call re-signed with the key, or for another host only if it is not signed.

    Raises:
        NoAnswer: it cannot be re-signed.
        BrokenOffError: the client broke off a body that was needed.
    """
    head, (path, query) = incoming.head, context.path_and_query
    credential, service = context.credential, context.call.service
    is_s3 = service is not None and service.name == "s3"
    original = Original(
        context.method,
        path,
        query,
        head.headers,
        context.folded,
        credential,
        upstream.authority,
        context.bucket_in_host if is_s3 else None,
    )
    if credential is None or credential.method == "HTMLForm":
        return ResignedCall(_with(head, with_host(original)))
    body = await _whole_body(client, incoming, context) if needs_body(original) else None
    try:
        signed = resign(original, key, body, client.endpoint.clock.now())
    except CannotResign as error:
        raise NoAnswer(Refusal(error.status, error.code, str(error))) from error
    return ResignedCall(_with(head, signed, without_expect=body is not None), body, signed.chunks)


async def _whole_body(client: ClientChannel, incoming: Incoming, context: CallContext) -> bytes:
    """Returns the body of a call whose head cannot be signed without it."""
    client.ask_to_continue(incoming)
    pieces, length = [], 0
    while piece := await incoming.body.next():
        pieces.append(piece)
        context.sent.add(piece)
        length += len(piece)
        if length > MAX_BODY:
            reason = f"a body of more than {MAX_BODY} bytes cannot be re-signed"
            raise NoAnswer(Refusal(413, "RequestEntityTooLarge", reason))
    return b"".join(pieces)


def _with(head: Head, signed: Resigned, without_expect: bool = False) -> Head:
    headers = signed.headers
    if without_expect:
        headers = [pair for pair in headers if pair[0].lower() != b"expect"]
    return Head(head.method, signed.target, head.version, headers)
