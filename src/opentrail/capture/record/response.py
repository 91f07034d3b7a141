"""What an answer adds to a record: its elements or its error, and the request's id."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from opentrail.capture.record import ec2_form, s3_form
from opentrail.capture.record.event_ids import new_event_id
from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.limits import cut
from opentrail.capture.record.render import lower_first, renderers
from opentrail.capture.record.rules import OperationTraits, has_s3_form, rules
from opentrail.capture.redaction.embedded import within
from opentrail.wire.protocols import WireError, decode_answer, read_error, request_id


def answer_of(
    exchange: Exchange, kind: OperationTraits, error: WireError | None, own: dict[str, Any]
) -> dict[str, Any] | None:
    """Returns `responseElements`, for successful writes only (cloudtrail-format §2.5)."""
    call, response = exchange.call, exchange.response
    if response is None or error is not None or not kind.keeps_answer or call.service is None:
        return None
    model = call.model
    if model is None or is_secret(model.output_shape):
        return None
    if has_s3_form(call.service.name):
        return s3_form.s3_answer(response)
    try:
        if call.service.name == "ec2":
            return ec2_form.ec2_answer(call, response)
        decoded = decode_answer(call, response)
        if model.output_shape is None:
            return None
        shown = renderers(call.service).render(model.output_shape, decoded)
    except (ValueError, RecursionError) as problem:
        own["answerDecodeError"] = str(problem)[:300]
        return None
    return _as_answer(call.service.name, shown) if isinstance(shown, dict) else None


def is_secret(shape: Any) -> bool:
    """Returns whether a model marks a whole request or answer sensitive."""
    return shape is not None and bool(shape.metadata.get("sensitive"))


def told_by_answer(exchange: Exchange) -> dict[str, Any] | None:
    """Returns the elements of an answer that names what was touched, such as KMS's key."""
    if exchange.response is None:
        return None
    try:
        return decode_answer(exchange.call, exchange.response)
    except (ValueError, RecursionError):
        return None


def _as_answer(service: str, shown: dict[str, Any]) -> dict[str, Any]:
    """Returns an answer with the names, and without the wrapper, that AWS records it by."""
    renamed, is_unwrapped = _answer_form(service)
    if renamed:
        shown = {renamed.get(name, name): item for name, item in shown.items()}
    if is_unwrapped and len(shown) == 1:
        only = next(iter(shown.values()))
        return only if isinstance(only, dict) else shown
    return shown


@cache
def _answer_form(service: str) -> tuple[Mapping[str, str], bool]:
    """Returns which members of a service's answers are renamed, and whether a wrapper goes."""
    names = rules("names")
    members = names["answer_member"].get(service, {}).items()
    renamed = {lower_first(modelled): recorded for modelled, recorded in members}
    return renamed, service in names["answer_unwrapped"]["services"]


def error_of(exchange: Exchange) -> WireError | None:
    """Returns the error of a call: its answer's, else that it broke off; None if it has none."""
    error, failure = _answered_error(exchange), exchange.failure
    if failure is None:
        return error
    if error is None:
        return WireError(failure.code, failure.message)
    return error if error.message else WireError(error.code, failure.message)


def _answered_error(exchange: Exchange) -> WireError | None:
    if exchange.described is not None:
        code = exchange.described.error
        return WireError(code, None) if code else None
    if exchange.response is None:
        return None
    return read_error(exchange.call, exchange.response, exchange.request.query)


def add_error(
    record: dict[str, Any], exchange: Exchange, error: WireError | None, own: dict[str, Any]
) -> None:
    """Adds error and failure to a record."""
    if exchange.failure:
        own["failure"] = within(exchange.failure.message)
    if error is None:
        return
    record["errorCode"] = cut(_error_code(exchange, error))
    if error.message:
        record["errorMessage"] = cut(error.message)


def _error_code(exchange: Exchange, error: WireError) -> str:
    """Returns the code as CloudTrail spells it (cloudtrail-format §2.5)."""
    if error.code == "AccessDeniedException":
        return "AccessDenied"
    service, spelling = exchange.call.service, rules("names")["error_code"]
    if service is None:
        return error.code
    if service.name in spelling["client_prefix"] and "." not in error.code[:7]:
        return f"Client.{error.code}"
    if service.name in spelling["shape_name"]:
        shape = service.error_shape(error.code)
        return str(shape.name) if shape is not None else error.code
    return error.code


def request_id_of(exchange: Exchange) -> str:
    """Returns the id that the upstream gave the request, a new one if it gave none."""
    response, found = exchange.response, None
    if response is not None and exchange.described is not None:
        found = response.headers.get("x-request-id")
    elif response is not None:
        found = request_id(response)
    return cut(found) if found else new_event_id()
