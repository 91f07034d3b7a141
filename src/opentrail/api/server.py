"""The CloudTrail API over HTTP: dispatch, validation, errors."""

from __future__ import annotations

import logging
import uuid
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opentrail.api.operation import REGISTER, Json, Operation, OperationCall, Services
from opentrail.api.operations import (
    event_data_stores,
    event_selectors,
    history,
    insight_selectors,
    insights,
    tags,
    trails,
)
from opentrail.api.validation import validate
from opentrail.core.errors import CloudTrailError, ObjectStoreError, OpentrailError, Unsupported
from opentrail.wire.service_models import ServiceCatalog

log = logging.getLogger(__name__)

#: Modules whose import registers operations.
OPERATION_MODULES = (
    event_data_stores,
    event_selectors,
    history,
    insight_selectors,
    insights,
    tags,
    trails,
)
_CONTENT_TYPE = "application/x-amz-json-1.1"
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"]
#: Values that change nothing, which unsupported members may have.
_NOTHING: tuple[object, ...] = (None, False, "", [], {})


class CloudTrailApi:
    """An ASGI application that answers CloudTrail's operations."""

    def __init__(self, services: Services, catalog: ServiceCatalog, scope_key: str) -> None:
        self._services = services
        self._model = catalog.services["cloudtrail"].model
        self._scope_key = scope_key
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=_METHODS)])

    async def _answer(self, request: Request) -> Response:
        try:
            answer = await self._run(request)
        except CloudTrailError as error:
            return _error(error.status, error.code, error.message)
        except ObjectStoreError as error:
            return _error(500, "InternalFailure", f"the object store failed: {error}")
        except OpentrailError as error:
            log.error("operation failed", extra={"error": str(error)})
            return _error(500, "InternalFailure", str(error))
        return _respond(200, answer)

    async def _run(self, request: Request) -> Json:
        target = request.headers.get("x-amz-target", "")
        if not target:
            if request.url.path.strip("/") == "PutAuditEvents":
                raise Unsupported("operation PutAuditEvents")
            raise CloudTrailError(
                "MissingActionException", "the request has no X-Amz-Target header"
            )
        name = target.rpartition(".")[2]
        operation = self._find(name)
        given = _parse(await request.body())
        call = self._call(operation, given, request)
        self._validate(operation, given)
        return await operation.handler(call)

    def _find(self, name: str) -> Operation:
        if name in REGISTER:
            return REGISTER[name]
        if name in self._model.operation_names:
            raise Unsupported(f"operation {name}")
        raise CloudTrailError("UnknownOperationException", f"there is no operation {name!r}")

    def _call(self, operation: Operation, given: Json, request: Request) -> OperationCall:
        own = request.scope[self._scope_key]
        if own.identity is None:
            raise CloudTrailError(
                "MissingAuthenticationTokenException", "Missing Authentication Token"
            )
        if own.flaw is not None:
            raise CloudTrailError("InvalidSignatureException", own.flaw)
        return OperationCall(
            operation=operation.name,
            input=given,
            account=own.account,
            region=own.region,
            event_id=own.event_id,
            services=self._services,
            when_recorded=own.when_recorded.append,
        )

    def _validate(self, operation: Operation, given: Json) -> None:
        _check_either(operation, given)
        for member in operation.without:
            if given.get(member) not in _NOTHING:
                raise Unsupported(f"parameter {member} of {operation.name}")
        shape = self._model.operation_model(operation.name).input_shape
        if shape is None:
            return
        for member, code in operation.errors.items():
            if given.get(member) is not None and member in shape.members:
                _validate_member(shape.members[member], given[member], member, code)
        validate(shape, given)


def _check_either(operation: Operation, given: Json) -> None:
    """Checks that a call has members of exactly one of an operation's groups."""
    present = [[name for name in group if name in given] for group in operation.either]
    found = [group[0] for group in present if group]
    if operation.either and len(found) != 1:
        names = " or ".join(group[0] for group in operation.either)
        raise CloudTrailError(
            "InvalidParameterCombinationException",
            f"{' and '.join(found)} cannot be specified together."
            if found
            else f"You must specify either {names}.",
        )


def _validate_member(shape: Any, value: Any, member: str, code: str) -> None:
    """Checks a member that has its own error code for invalid values."""
    wrapper = _Wrapper(member, shape)
    try:
        validate(wrapper, {member: value})
    except CloudTrailError as error:
        if error.code != "ValidationException":
            raise
        raise CloudTrailError(code, error.message) from error


class _Wrapper:
    """A structure with one member, in the form `validate` reads."""

    type_name = "structure"
    required_members: tuple[str, ...] = ()

    def __init__(self, member: str, shape: Any) -> None:
        self.members = {member: shape}


def _parse(body: bytes) -> Json:
    if not body.strip():
        return {}
    try:
        given = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CloudTrailError("SerializationException", f"the body is not JSON: {error}") from error
    if not isinstance(given, dict):
        raise CloudTrailError("SerializationException", "the body must be a JSON object")
    return {name: value for name, value in given.items() if value is not None}


def _error(status: int, code: str, message: str) -> Response:
    return _respond(status, {"__type": code, "Message": message})


def _respond(status: int, document: Json) -> Response:
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return Response(orjson.dumps(document), status, headers, _CONTENT_TYPE)
