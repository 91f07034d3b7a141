"""Changes of trails, by calls of the CloudTrail API that are recorded as any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from opentrail.access.users import ConsoleRole
from opentrail.api.services import Services
from opentrail.api.trail_states import all_trails, find_trail, trail_state
from opentrail.api.v1.answers import invalid_parameter, read_body
from opentrail.api.v1.callers import (
    SERVER_OPERATOR,
    agent_of,
    caller_of,
    is_by_program,
    require,
)
from opentrail.api.v1.routes import AUDITOR, OPERATOR, route
from opentrail.api.v1.turn_on import ConsoleCaller, OwnEndpoint, TurningOn, Wish
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.trail import Trail
from opentrail.core.version import __version__

_OPERATIONS = {"start": "StartLogging", "stop": "StopLogging", "delete": "DeleteTrail"}
#: What operations of CloudTrail that only read begin with.
_READS = ("Describe", "Get", "List", "Lookup")
#: Error code → what to do about it on the command line.
_HINTS = {
    "S3BucketDoesNotExistException": " --create-bucket creates it, with its policy.",
    "InsufficientS3BucketPolicyException": "; it must let cloudtrail.amazonaws.com call"
    " s3:GetBucketAcl on {bucket} and s3:PutObject below AWSLogs/",
}
#: Maximum bytes of an operation's input.
_MAX_INPUT_BYTES = 1_000_000
#: Maximum characters of a browser's user agent.
_MAX_AGENT_LENGTH = 1_000


def role_of_operation(operation: str) -> ConsoleRole:
    """Returns the least role that may call an operation of CloudTrail."""
    return AUDITOR if operation.startswith(_READS) else OPERATOR


class TrailAdministration:
    """Calls the CloudTrail API with the server's own key, in its account.

    Args:
        services: what operations use.
        endpoint: this server's own endpoint.
        account: returns the account of the server's key.
        region: the Region that is called if the caller names none.
    """

    def __init__(
        self, services: Services, endpoint: OwnEndpoint, account: Callable[[], str], region: str
    ) -> None:
        self._services = services
        self._endpoint = endpoint
        self._account = account
        self._region = region

    @route(
        "POST",
        "/aws/{operation}",
        AUDITOR,
        "call Describe, Get, List and Lookup operations of CloudTrail; operator: all",
        query=("region",),
    )
    async def operation(self, request: Request) -> Response:
        """Passes an operation on to the endpoint, which records it."""
        body = await read_body(request, _MAX_INPUT_BYTES)
        operation = request.path_params["operation"]
        if not (operation.isascii() and operation.isalnum()):
            raise CloudTrailError("UnknownOperationException", f"no operation {operation!r}")
        require(caller_of(request), role_of_operation(operation))
        self._require_own_account(request)
        answer = await self._call(request, operation, self._region_of(request), body)
        return Response(answer, media_type="application/json")

    @route(
        "POST",
        "/turn-on",
        OPERATOR,
        "turn CloudTrail on",
        query=("region",),
        body='{"name": "my-trail", "bucket": "my-bucket"}',
    )
    async def turn_on(self, request: Request, body: Json) -> Response:
        """Turns CloudTrail on as a person wishes; a line of JSON for each step."""
        self._require_own_account(request)
        wish = Wish.of(body)
        steps = await self._steps(request, wish, self._region_of(request))
        return StreamingResponse(steps, media_type="application/x-ndjson")

    @route(
        "POST",
        "/trails",
        OPERATOR,
        "list, show, create, start, stop and delete trails",
        body='{"action": "list"}',
        all_accounts=True,
    )
    async def run(self, request: Request, body: Json) -> Json:
        """Returns the answer to an action: list, show, create, start, stop or delete.

        Raises:
            CloudTrailError: the action is unknown, or was refused.
        """
        action = body.get("action")
        if action == "list":
            trails, control = await all_trails(self._services.trails), self._services.control
            return {"trails": [await trail_state(control, trail) for trail in trails]}
        if action == "create":
            return await self._create(request, body)
        trail = await find_trail(self._services.trails, body.get("name"), None)
        if action == "show":
            return {**await trail_state(self._services.control, trail)}
        if action not in _OPERATIONS:
            raise invalid_parameter(f"there is no action {action!r}")
        name_document = orjson.dumps({"Name": trail.arn})
        await self._call(request, _OPERATIONS[action], trail.home_region, name_document)
        return {"trail": trail.arn}

    async def _create(self, request: Request, body: Json) -> Json:
        region = body.get("region")
        wish = Wish.of({name: body[name] for name in body if name not in ("action", "region")})
        if not isinstance(region, str) or not region:
            raise invalid_parameter("region must be given")
        async for line in await self._steps(request, wish, region):
            if error := orjson.loads(line)["error"]:
                hint = _HINTS.get(error["code"], "").format(bucket=wish.bucket)
                raise CloudTrailError(error["code"], f"{error['message']}{hint}")
        trail = await find_trail(self._services.trails, wish.name, self._account())
        return {**await trail_state(self._services.control, trail)}

    async def _steps(self, request: Request, wish: Wish, region: str) -> AsyncIterator[bytes]:
        """Returns the steps that make a trail.

        Raises:
            CloudTrailError: a trail has this name, or there is no room for one.
        """
        new = Trail(
            "", wish.name, self._account(), region, wish.bucket, multi_region=wish.all_regions
        )
        await self._services.trails.check_room(new)
        turning = TurningOn(self._endpoint, region, self._account(), _as_caller(request))
        return turning.steps(wish)

    async def _call(self, request: Request, operation: str, region: str, body: bytes) -> bytes:
        """Returns the answer to an operation.

        Raises:
            CloudTrailError: it was refused, with its code.
        """
        caller = _as_caller(request)
        status, answer = await self._endpoint.cloudtrail(operation, region, caller, body)
        if status < 400:
            return answer
        try:
            error = orjson.loads(answer)
        except orjson.JSONDecodeError:
            error = {"message": f"the endpoint answered with status {status}"}
        code = str(error.get("__type", "InternalFailure")).rpartition("#")[2]
        raise CloudTrailError(code, str(error.get("message") or error.get("Message", "")), status)

    def _region_of(self, request: Request) -> str:
        return request.query_params.get("region") or self._region

    def _require_own_account(self, request: Request) -> None:
        """Returns if the caller may see the account whose calls the server makes."""
        caller = caller_of(request)
        if not caller.may_see(self._account()):
            accounts = ", ".join(caller.accounts or ())
            message = f"{caller.name} may see the accounts {accounts} only."
            raise CloudTrailError("AccessDenied", message, 403)


def _as_caller(request: Request) -> ConsoleCaller:
    """Returns on whose behalf a call is made, as its record says it."""
    caller = caller_of(request)
    name = None if caller == SERVER_OPERATOR else caller.name
    if is_by_program(request):
        return f"opentrail/{__version__}", name
    return agent_of(request, _MAX_AGENT_LENGTH), name
