"""The CloudTrail API over HTTP: dispatch, validation, errors."""

from __future__ import annotations

import logging
import re
import uuid
from collections.abc import Sequence
from functools import partial
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from opentrail.access.resource_policies import ResourcePolicies
from opentrail.api import athena
from opentrail.api.cloudtrail import (
    channels,
    events,
    imports,
    lake,
    resource_policies,
    selectors,
    stores,
    tags,
    trails,
)
from opentrail.api.cloudtrail.authorizer import (
    Authorizer,
    VerifiedCall,
    check_unverified_sender,
)
from opentrail.api.cloudtrail.operation import (
    REGISTER,
    Operation,
    OperationCall,
    member_path,
    validate,
)
from opentrail.api.cloudtrail.permissions import ACCESS_RULES
from opentrail.api.cloudtrail.replays import Replays
from opentrail.api.services import Services
from opentrail.core.arns import CHANNEL, CloudTrailArn
from opentrail.core.errors import (
    INTERNAL_FAILURE,
    CloudTrailError,
    ObjectStoreError,
    OpentrailError,
    StoreUnreachable,
    Unsupported,
)
from opentrail.core.event import Json
from opentrail.trails.query_results import read_uri
from opentrail.wire import cbor
from opentrail.wire.service_models import ServiceCatalog

log = logging.getLogger(__name__)

#: Modules whose import registers operations.
OPERATION_MODULES = (
    channels,
    events,
    imports,
    lake,
    resource_policies,
    selectors,
    stores,
    tags,
    trails,
)
_CONTENT_TYPE = "application/x-amz-json-1.1"
_ATHENA_TARGET = "AmazonAthena."
_METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "QUERY"]
#: Values without effect, which unsupported members may have.
_NOTHING: tuple[object, ...] = (None, False, "", [], {})
_PUT_AUDIT_EVENTS = "PutAuditEvents"
#: Members of its input that the query string has.
_IN_QUERY = ("channelArn", "externalId")
_CHANNEL_ID = re.compile(r"[0-9a-f-]{36}")
#: Word in the name of an operation → the missing feature that it needs.
_LACKING = (
    ("Dashboard", "dashboards"),
    ("Quer", "generated queries"),
)


class CloudTrailApi:
    """An ASGI application that answers CloudTrail's operations.

    With an authorizer, callers need verified identities, and policies decide on their calls.
    Without one, every caller may do everything in its account.
    """

    def __init__(
        self,
        services: Services,
        catalog: ServiceCatalog,
        scope_key: str,
        authorizer: Authorizer | None = None,
    ) -> None:
        self._services = services
        self._models = (catalog.services["cloudtrail"], catalog.services["cloudtrail-data"])
        self._athena = catalog.services["athena"]
        self._scope_key = scope_key
        self._authorizer = authorizer
        self._replays = Replays(services.control)
        self._resource_policies = (
            authorizer.resource_policies if authorizer else ResourcePolicies(services.control)
        )
        self.app = Starlette(routes=[Route("/{path:path}", self._answer, methods=_METHODS)])

    async def _answer(self, request: Request) -> Response:
        if request.headers.get("x-amz-target", "").startswith(_ATHENA_TARGET):
            return await self._answer_athena(request)
        is_cbor = request.headers.get("smithy-protocol", "").lower() == cbor.PROTOCOL
        try:
            name = self._name(request, is_cbor)
            answer = await self._run(name, request, is_cbor)
        except CloudTrailError as error:
            return _error(error.status, error.code, error.message, is_cbor)
        except ObjectStoreError as error:
            message = f"the object store failed: {error}"
            return _error(500, "InternalFailure", message, is_cbor)
        except StoreUnreachable as error:
            log.error("operation failed", extra={"error": str(error)})
            return _error(503, "ServiceUnavailable", error.public_text, is_cbor)
        except OpentrailError as error:
            log.error("operation failed", extra={"error": str(error)})
            return _error(500, "InternalFailure", INTERNAL_FAILURE, is_cbor)
        if is_cbor:
            return _respond_in_cbor(200, cbor.encode(self._model_of(name).output_shape, answer))
        return _respond(200, answer)

    async def _answer_athena(self, request: Request) -> Response:
        """Answers a call of Athena's API, which needs the permissions of CloudTrail's queries."""
        name = request.headers["x-amz-target"].removeprefix(_ATHENA_TARGET)
        try:
            operation, model = athena.OPERATIONS.get(name), self._athena.operation(name)
            if operation is None or model is None:
                raise Unsupported(f"operation {name} of Athena")
            own = self._own_call(request)
            arguments = _parse(await request.body())
            validate(model.input_shape, arguments)
            verified = _verified(operation.permission, {}, own, request)
            reads = await self._stores_read(arguments, own)
            await self._authorize(verified, reads)
            await self._refuse_replay(operation.permission, own)
            call = athena.AthenaCall(
                arguments,
                own.account,
                own.region,
                self._services,
                _texts(reads),
                partial(self._may_write, verified),
            )
            found = await athena.answer(name, call)
        except CloudTrailError as error:
            return _error(error.status, error.code, error.message, False)
        except OpentrailError as error:
            log.error("operation failed", extra={"error": str(error)})
            message = getattr(error, "public_text", INTERNAL_FAILURE)
            return _error(500, "InternalServerException", message, False)
        return _respond(200, found)

    async def _stores_read(self, arguments: Json, own: Any) -> list[CloudTrailArn] | None:
        return await lake.stores_read(arguments, own.account, own.region, self._services)

    async def _authorize(
        self, call: VerifiedCall, reads: Sequence[CloudTrailArn] | None
    ) -> frozenset[str]:
        """Returns the ARNs of other accounts' resources that a call touches, if it is allowed."""
        if self._authorizer is not None:
            return await self._authorizer.check(call, reads)
        if call.operation == _PUT_AUDIT_EVENTS:
            now = self._services.clock.now()
            await check_unverified_sender(call, self._resource_policies, now)
        return frozenset()

    def _may_write(self, call: VerifiedCall, uri: str) -> bool | None:
        """Returns whether the caller may write to a URI itself; None if policies do not decide."""
        if self._authorizer is None:
            return None
        return self._authorizer.may_write_objects(call, *read_uri(uri))

    async def _run(self, name: str, request: Request, is_cbor: bool) -> Json:
        body = await request.body()
        arguments = cbor.parse(body) if is_cbor else _parse(body)
        own = self._own_call(request)
        if name == _PUT_AUDIT_EVENTS:
            arguments = _with_query(arguments, request, own)
        self._validate(name, arguments)
        verified = _verified(name, arguments, own, request)
        reads = await self._stores_read(arguments, own)
        shared = await self._authorize(verified, reads)
        await self._refuse_replay(name, own)
        operation = REGISTER.get(name)
        if operation is None:
            raise _unsupported(name)
        for member in operation.without:
            if arguments.get(member) not in _NOTHING:
                raise Unsupported(f"parameter {member} of {name}")
        return await operation.handler(self._call(verified, own, shared, reads))

    async def _refuse_replay(self, name: str, own: Any) -> None:
        """Refuses a repeated call that changes something (guarantee A4)."""
        if own.signature is None or ACCESS_RULES[name].level.is_read_only:
            return
        await self._replays.use(own.signature, own.valid_until, self._services.clock.now())

    def _name(self, request: Request, is_cbor: bool) -> str:
        """Returns the operation that a request names."""
        target = request.headers.get("x-amz-target", "")
        if is_cbor:
            target = cbor.operation_in(request.url.path) or ""
        if not target:
            if request.url.path.strip("/") == _PUT_AUDIT_EVENTS:
                return _PUT_AUDIT_EVENTS
            raise CloudTrailError(
                "MissingActionException", "the request has no X-Amz-Target header"
            )
        name = target.rpartition(".")[2]
        if name not in self._models[0].model.operation_names:
            raise CloudTrailError("UnknownOperationException", f"there is no operation {name!r}")
        if name not in ACCESS_RULES:
            # The installed model is newer than the access rules.
            raise _unsupported(name)
        return name

    def _own_call(self, request: Request) -> Any:
        """Returns the context of the call, which its HTTP request does not contain."""
        own = request.scope[self._scope_key]
        if own.identity is None:
            raise CloudTrailError(
                "MissingAuthenticationTokenException", "Missing Authentication Token"
            )
        if own.flaw is not None:
            raise CloudTrailError("InvalidSignatureException", own.flaw)
        return own

    def _call(
        self,
        verified: VerifiedCall,
        own: Any,
        shared: frozenset[str],
        reads: Sequence[CloudTrailArn] | None,
    ) -> OperationCall:
        return OperationCall(
            operation=verified.operation,
            input=dict(verified.input),
            account=own.account,
            region=own.region,
            event_id=own.event_id,
            services=self._services,
            resource_policies=self._resource_policies,
            shared=shared,
            reads=_texts(reads),
            may_write=partial(self._may_write, verified),
            when_recorded=own.when_recorded.append,
        )

    def _model_of(self, name: str) -> Any:
        return next(model for service in self._models if (model := service.operation(name)))

    def _validate(self, name: str, arguments: Json) -> None:
        shape, operation = self._model_of(name).input_shape, REGISTER.get(name)
        if shape is not None:
            for member, code in operation.errors.items() if operation else ():
                if arguments.get(member) is not None and member in shape.members:
                    _validate_member(shape.members[member], arguments[member], member, code)
            validate(shape, arguments)
        if operation is not None:
            _check_either(operation, arguments)


def _verified(name: str, arguments: Json, own: Any, request: Request) -> VerifiedCall:
    return VerifiedCall(
        operation=name,
        input=arguments,
        identity=own.identity,
        account=own.account,
        region=own.region,
        source_ip=own.source_ip,
        user_agent=request.headers.get("user-agent"),
        is_secure=own.secure,
    )


def _texts(arns: Sequence[CloudTrailArn] | None) -> list[str] | None:
    return None if arns is None else list(map(str, arns))


def _with_query(arguments: Json, request: Request, own: Any) -> Json:
    """Returns the input of `PutAuditEvents`, whose query string has some of its members."""
    query = request.query_params
    given: Json = {member: query[member] for member in _IN_QUERY if member in query}
    if _CHANNEL_ID.fullmatch(given.get("channelArn", "")):
        # The documentation allows an id, the model does not.
        channel = CloudTrailArn(CHANNEL, own.region, own.account, given["channelArn"])
        given["channelArn"] = str(channel)
    body = {member: value for member, value in arguments.items() if member not in _IN_QUERY}
    return {**body, **given}


def _unsupported(name: str) -> Unsupported:
    """Returns the error of an unsupported operation, with the missing feature if known."""
    lacking = next((feature for words, feature in _LACKING if re.search(words, name)), None)
    return Unsupported(f"operation {name}" + (f": it has no {lacking}" if lacking else ""))


def _check_either(operation: Operation, arguments: Json) -> None:
    """Checks that a call has members of exactly one of an operation's groups."""
    groups = [[name for name in group if name in arguments] for group in operation.either]
    members = [group[0] for group in groups if group]
    if operation.either and len(members) != 1:
        names = " or ".join(group[0] for group in operation.either)
        raise CloudTrailError(
            "InvalidParameterCombinationException",
            f"{' and '.join(members)} cannot be specified together."
            if members
            else f"You must specify either {names}.",
        )


def _validate_member(shape: Any, value: Any, member: str, code: str) -> None:
    """Checks a member that has its own error code for invalid values."""
    try:
        validate(shape, value, member_path("", member))
    except CloudTrailError as error:
        if error.code != "ValidationException":
            raise
        raise CloudTrailError(code, error.message) from error


def _parse(body: bytes) -> Json:
    if not body.strip():
        return {}
    try:
        arguments = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise CloudTrailError("SerializationException", f"the body is not JSON: {error}") from error
    if not isinstance(arguments, dict):
        raise CloudTrailError("SerializationException", "the body must be a JSON object")
    return {name: value for name, value in arguments.items() if value is not None}


def _error(status: int, code: str, message: str, is_cbor: bool) -> Response:
    if is_cbor:
        return _respond_in_cbor(status, cbor.encode(None, {"__type": code, "message": message}))
    return _respond(status, {"__type": code, "Message": message})


def _respond(status: int, document: Json) -> Response:
    headers = {"x-amzn-RequestId": str(uuid.uuid4())}
    return Response(orjson.dumps(document), status, headers, _CONTENT_TYPE)


def _respond_in_cbor(status: int, body: bytes) -> Response:
    headers = {"x-amzn-RequestId": str(uuid.uuid4()), "smithy-protocol": cbor.PROTOCOL}
    return Response(body, status, headers, cbor.CONTENT_TYPE)
