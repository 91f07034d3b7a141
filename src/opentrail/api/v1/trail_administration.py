"""Changes of trails, by calls of the CloudTrail API that are recorded like any other call.

One step turns CloudTrail on: bucket, policy, topic, trail, logging.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from opentrail.access.users import ConsoleRole
from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter, read_body
from opentrail.api.v1.callers import (
    SERVER_OPERATOR,
    agent_of,
    caller_of,
    is_by_program,
    require,
)
from opentrail.api.v1.routes import AUDITOR, OPERATOR, route
from opentrail.api.v1.trails import all_trails, find_trail, trail_state
from opentrail.core.errors import CloudTrailError, ServiceError
from opentrail.core.event import Json
from opentrail.core.trail import (
    Trail,
    check_bucket_name,
    check_kms_key,
    check_prefix,
    check_trail_name,
    topic_arn,
)
from opentrail.core.version import __version__

_OPERATIONS = {"start": "StartLogging", "stop": "StopLogging", "delete": "DeleteTrail"}
#: Prefixes of read-only CloudTrail operations.
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
        services: the features that operations use.
        endpoint: this server's own endpoint.
        account: returns the account of the server's key.
        region: the default Region of calls.
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
        """Turns CloudTrail on; answers with a JSON line for each step."""
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
            CloudTrailError: the action is unknown or refused.
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
            CloudTrailError: a trail has this name, or the account has its maximum of trails.
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
    """Returns the caller for whom a call is made, in the form that its record shows."""
    caller = caller_of(request)
    name = None if caller == SERVER_OPERATOR else caller.name
    if is_by_program(request):
        return f"opentrail/{__version__}", name
    return agent_of(request, _MAX_AGENT_LENGTH), name


# Turning CloudTrail on

#: Error codes of calls that find nothing.
_MISSING = ("404", "NoSuchBucket", "NoSuchBucketPolicy", "NotFound", "NotFoundException")
_SERVICE = {"Service": "cloudtrail.amazonaws.com"}


#: The user agent in records, and the name of the console's user: None for the operator of the
#: server's machine.
ConsoleCaller = tuple[str, str | None]


class OwnEndpoint(Protocol):
    """The endpoint, called like any client calls it, so every call is recorded."""

    async def call(
        self,
        service: str,
        operation: str,
        region: str,
        caller: ConsoleCaller,
        arguments: dict[str, Any],
    ) -> dict[str, Any]:
        """Return the answer to a call, in the form of the service's model.

        Args:
            service: its name in botocore, such as `s3`.
            operation: the operation, such as `CreateBucket`.
            region: the Region to call.
            caller: the caller for whom it is called.
            arguments: the operation's input.

        Raises:
            ServiceError: the service refused or failed.
        """
        ...

    async def cloudtrail(
        self, operation: str, region: str, caller: ConsoleCaller, body: bytes
    ) -> tuple[int, bytes]:
        """Return status and body of the CloudTrail API's answer, in JSON 1.1.

        Raises:
            ServiceError: the endpoint did not answer.
        """
        ...


class Wish(msgspec.Struct, frozen=True, rename="camel"):
    """The request of the page "Turn On CloudTrail"."""

    name: str
    bucket: str
    all_regions: bool = True
    create_bucket: bool = True
    prefix: str = ""
    kms_key: str = ""
    validation: bool = True
    topic: str = ""
    create_topic: bool = False

    @classmethod
    def of(cls, body: dict[str, Any]) -> Wish:
        """Parses the body of a request.

        Raises:
            CloudTrailError: a member is unknown, missing, of another type, or an invalid name.
        """
        members = {field.encode_name: field.type for field in msgspec.structs.fields(cls)}
        for member, value in body.items():
            kind = members.get(member)
            if kind is None:
                known = ", ".join(members)
                raise invalid_parameter(f"there is no member {member!r}; known are {known}")
            if value is not None and not isinstance(value, kind):
                expected = "true or false" if kind is bool else "a string"
                raise invalid_parameter(f"{member} must be {expected}, not {value!r}")
        values = {member: value for member, value in body.items() if value is not None}
        for member in ("name", "bucket"):
            if not values.get(member):
                raise invalid_parameter(f"{member} must be given")
        # CreateTrail checks them as well, but only after the bucket exists.
        check_trail_name(values["name"])
        check_bucket_name(values["bucket"])
        if prefix := values.get("prefix"):
            check_prefix(prefix)
        if kms_key := values.get("kmsKey"):
            check_kms_key(kms_key)
        return msgspec.convert(values, cls)


class TurningOn:
    """Makes the calls that a person would make, through the endpoint, so that each is recorded."""

    def __init__(
        self, endpoint: OwnEndpoint, region: str, account: str, caller: ConsoleCaller
    ) -> None:
        self._endpoint = endpoint
        self._region, self._account, self._caller = region, account, caller
        #: Name of each created resource, and the call that removes it.
        self._made: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    async def steps(self, wish: Wish) -> AsyncIterator[bytes]:
        """Yields a JSON line for each step; a failed step is the last one.

        After a failure it removes the resources of earlier steps, and the error says so.
        """
        steps: list[tuple[str, Callable[[Wish], Awaitable[object]]]] = []
        if wish.create_bucket:
            steps += [("bucket", self._create_bucket), ("policy", self._allow_delivery)]
        if wish.topic and wish.create_topic:
            steps.append(("topic", self._create_topic))
        steps += [("trail", self._create_trail), ("logging", self._start_logging)]
        for name, step in steps:
            try:
                await step(wish)
            except (ServiceError, CloudTrailError) as error:
                message = str(error).removeprefix(f"{error.code}: ")
                message = "; ".join([message, *[problem async for problem in self._remove_all()]])
                failed = {"code": error.code, "message": message}
                yield orjson.dumps({"step": name, "done": False, "error": failed}) + b"\n"
                return
            yield orjson.dumps({"step": name, "done": True, "error": None}) + b"\n"

    async def _call(self, service: str, operation: str, **arguments: Any) -> dict[str, Any]:
        return await self._endpoint.call(service, operation, self._region, self._caller, arguments)

    async def _remove_all(self) -> AsyncIterator[str]:
        """Removes the created resources, newest first, and yields the result of each."""
        for name, remove in reversed(self._made):
            try:
                await remove()
            except (ServiceError, CloudTrailError) as error:
                yield f"the new {name} remains, since {error}: a next attempt uses it"
            else:
                yield f"the new {name} was removed again"

    async def _is_missing(self, service: str, operation: str, **arguments: Any) -> bool:
        """Returns whether a call finds nothing; a refused call does not count."""
        try:
            await self._call(service, operation, **arguments)
        except ServiceError as error:
            return error.code in _MISSING
        return False

    async def _create_bucket(self, wish: Wish) -> None:
        is_missing = await self._is_missing("s3", "HeadBucket", Bucket=wish.bucket)
        where = {"LocationConstraint": self._region}
        elsewhere = {} if self._region == "us-east-1" else {"CreateBucketConfiguration": where}
        try:
            await self._call("s3", "CreateBucket", Bucket=wish.bucket, **elsewhere)
        except ServiceError as error:
            if error.code != "BucketAlreadyOwnedByYou":
                raise
        if is_missing:
            remove = partial(self._call, "s3", "DeleteBucket", Bucket=wish.bucket)
            self._made.append((f"bucket {wish.bucket}", remove))

    async def _allow_delivery(self, wish: Wish) -> None:
        """Lets CloudTrail deliver to a bucket without a policy; keeps an existing policy."""
        if not self._made and not await self._is_missing(
            "s3", "GetBucketPolicy", Bucket=wish.bucket
        ):
            return
        policy = json.dumps(delivery_policy(wish.bucket, wish.prefix, self._account))
        try:
            await self._call("s3", "PutBucketPolicy", Bucket=wish.bucket, Policy=policy)
        except ServiceError as error:
            # A store without bucket policies lets opentrail deliver with its own credentials.
            if error.code not in ("NotImplemented", "501", "MethodNotAllowed"):
                raise

    async def _create_topic(self, wish: Wish) -> None:
        arn = topic_arn(wish.topic, self._region, self._account)
        is_missing = await self._is_missing("sns", "GetTopicAttributes", TopicArn=arn)
        await self._call("sns", "CreateTopic", Name=wish.topic)
        if is_missing:
            remove = partial(self._call, "sns", "DeleteTopic", TopicArn=arn)
            self._made.append((f"topic {wish.topic}", remove))

    async def _create_trail(self, wish: Wish) -> None:
        optional = {
            "S3KeyPrefix": wish.prefix,
            "KmsKeyId": wish.kms_key,
            "SnsTopicName": wish.topic,
        }
        await self._call(
            "cloudtrail",
            "CreateTrail",
            Name=wish.name,
            S3BucketName=wish.bucket,
            IsMultiRegionTrail=wish.all_regions,
            EnableLogFileValidation=wish.validation,
            **{member: value for member, value in optional.items() if value},
        )
        remove = partial(self._call, "cloudtrail", "DeleteTrail", Name=wish.name)
        self._made.append((f"trail {wish.name}", remove))

    async def _start_logging(self, wish: Wish) -> None:
        await self._call("cloudtrail", "StartLogging", Name=wish.name)


def delivery_policy(bucket: str, prefix: str, account: str) -> dict[str, Any]:
    """Returns the policy that lets CloudTrail deliver to a bucket."""
    folder = f"{prefix}/AWSLogs" if prefix else "AWSLogs"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "AWSCloudTrailAclCheck20150319",
                "Effect": "Allow",
                "Principal": _SERVICE,
                "Action": "s3:GetBucketAcl",
                "Resource": f"arn:aws:s3:::{bucket}",
            },
            {
                "Sid": "AWSCloudTrailWrite20150319",
                "Effect": "Allow",
                "Principal": _SERVICE,
                "Action": "s3:PutObject",
                "Resource": f"arn:aws:s3:::{bucket}/{folder}/{account}/*",
                "Condition": {"StringEquals": {"s3:x-amz-acl": "bucket-owner-full-control"}},
            },
        ],
    }
