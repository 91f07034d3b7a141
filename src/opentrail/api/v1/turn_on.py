"""Turning CloudTrail on in one step: bucket, policy, topic, trail, logging."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol

import msgspec
import orjson

from opentrail.api.v1.answers import invalid_parameter
from opentrail.core.errors import CloudTrailError, ServiceError
from opentrail.core.trail import (
    check_bucket_name,
    check_kms_key,
    check_prefix,
    check_trail_name,
    topic_arn,
)

#: Codes of errors of calls that find nothing.
_MISSING = ("404", "NoSuchBucket", "NoSuchBucketPolicy", "NotFound", "NotFoundException")
_SERVICE = {"Service": "cloudtrail.amazonaws.com"}


#: The user agent in records, and the name of the console's user: None for the operator of the
#: server's machine.
ConsoleCaller = tuple[str, str | None]


class OwnEndpoint(Protocol):
    """The endpoint as a client sees it: every call is recorded."""

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
            caller: on whose behalf it is called.
            arguments: the operation's input.

        Raises:
            ServiceError: the service refused or failed.
        """
        ...

    async def cloudtrail(
        self, operation: str, region: str, caller: ConsoleCaller, body: bytes
    ) -> tuple[int, bytes]:
        """Return status and body of the answer of the CloudTrail API, in JSON 1.1.

        Raises:
            ServiceError: it did not answer.
        """
        ...


class Wish(msgspec.Struct, frozen=True, rename="camel"):
    """What the page "Turn On CloudTrail" asks for."""

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
        """Returns what a request asks for.

        Raises:
            CloudTrailError: a member is unknown, missing, not of its type, or not a valid name.
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
        # CreateTrail checks them as well, but after the bucket is made.
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
        #: What was made: its name, and the call that removes it.
        self._made: list[tuple[str, Callable[[], Awaitable[object]]]] = []

    async def steps(self, wish: Wish) -> AsyncIterator[bytes]:
        """Yields a line of JSON for each step; a step that fails is the last one.

        What earlier steps made is then removed again, and the error says so.
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
        """Removes what was made, the last one first, and yields the result of each."""
        for name, remove in reversed(self._made):
            try:
                await remove()
            except (ServiceError, CloudTrailError) as error:
                yield f"the new {name} remains, since {error}: a next attempt uses it"
            else:
                yield f"the new {name} was removed again"

    async def _is_missing(self, service: str, operation: str, **arguments: Any) -> bool:
        """Returns whether a call finds nothing of that name; not if it is refused."""
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
        """Lets CloudTrail deliver to a bucket without a policy; a policy that it has stays."""
        if not self._made and not await self._is_missing(
            "s3", "GetBucketPolicy", Bucket=wish.bucket
        ):
            return
        policy = json.dumps(delivery_policy(wish.bucket, wish.prefix, self._account))
        try:
            await self._call("s3", "PutBucketPolicy", Bucket=wish.bucket, Policy=policy)
        except ServiceError as error:
            # A store without bucket policies lets opentrail deliver by its own credentials.
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
    """Returns the policy with which CloudTrail may deliver to a bucket."""
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
