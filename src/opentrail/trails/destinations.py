"""Checks that the bucket, key, topic and log group of a trail exist and accept its writes."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from opentrail.core.errors import (
    CloudTrailError,
    ObjectExists,
    ObjectMissing,
    ObjectStoreError,
    ServiceError,
    ServiceMissing,
)
from opentrail.core.logfile import CLOUDTRAIL, DIGEST, DeliveryPlace, encryption_context
from opentrail.core.trail import Trail, check_kms_key, check_log_group, check_log_role
from opentrail.ports.objects import NewObject, ObjectStore
from opentrail.ports.services import EncryptionKeys, LogGroups, Topics
from opentrail.trails.outbox import FIRST_MESSAGE, SUBJECT, stream_name
from opentrail.trails.registry import StoredTrail

_SERVICE = "cloudtrail.amazonaws.com"
_ACL = "bucket-owner-full-control"


@dataclass(frozen=True, slots=True)
class _Permission:
    """A permission that CloudTrail needs."""

    action: str
    resource: str
    context: Mapping[str, str]


def allows_delivery(
    policy: str | None, bucket: str, folder: str, trail_arn: str, kms_key: str = ""
) -> bool:
    """Returns whether a policy lets CloudTrail read the bucket's ACL and write into a folder.

    Args:
        policy: the policy document, if the bucket has one.
        bucket: the bucket's name.
        folder: the prefix of all keys that the trail writes, ending with a slash.
        trail_arn: the trail, for conditions on `aws:SourceArn` and `aws:SourceAccount`.
        kms_key: ARN of the key that encrypts the trail's files, if any.
    """
    if policy is None:
        return False
    try:
        document = json.loads(policy)
    except ValueError:
        return False
    if not isinstance(document, dict):
        return False
    content = document.get("Statement", [])
    content = content if isinstance(content, list) else [content]
    statements = [statement for statement in content if isinstance(statement, dict)]
    source = {"aws:sourcearn": trail_arn, "aws:sourceaccount": trail_arn.split(":")[4]}
    arn = f"arn:{trail_arn.split(':')[1]}:s3:::{bucket}"
    context = {**source, "s3:x-amz-acl": _ACL}
    if kms_key:
        context["s3:x-amz-server-side-encryption"] = "aws:kms"
        context["s3:x-amz-server-side-encryption-aws-kms-key-id"] = kms_key
    return all(
        _is_allowed(statements, needed)
        for needed in (
            _Permission("s3:getbucketacl", arn, source),
            # For objects of any name, hence a name that only the pattern `*` matches.
            _Permission("s3:putobject", f"{arn}/{folder}\0", context),
        )
    )


def _is_allowed(statements: Iterable[Mapping[str, Any]], needed: _Permission) -> bool:
    fitting = [str(s.get("Effect")) for s in statements if _fits(s, needed)]
    return "Allow" in fitting and "Deny" not in fitting


def _fits(statement: Mapping[str, Any], needed: _Permission) -> bool:
    return (
        _has_service(statement)
        and _matches(statement, "Action", needed.action, fold=True)
        and _matches(statement, "Resource", needed.resource)
        and _conditions_hold(statement.get("Condition") or {}, needed.context)
    )


def _has_service(statement: Mapping[str, Any]) -> bool:
    if "NotPrincipal" in statement:
        return False
    principal = statement.get("Principal")
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return False
    return _SERVICE in _strings(principal.get("Service")) or "*" in _strings(principal.get("AWS"))


def _matches(statement: Mapping[str, Any], member: str, value: str, fold: bool = False) -> bool:
    excluded = statement.get(f"Not{member}")
    patterns = _strings(statement.get(member) if excluded is None else excluded)
    if fold:
        patterns = [pattern.lower() for pattern in patterns]
    return any(_like(pattern, value) for pattern in patterns) == (excluded is None)


def _conditions_hold(conditions: Any, context: Mapping[str, str]) -> bool:
    """Returns whether all conditions hold; an unknown one does not (guarantee Z2)."""
    if not isinstance(conditions, dict):
        return False
    for operator, operands in conditions.items():
        if not isinstance(operands, dict):
            return False
        for key, values in operands.items():
            if not _holds(operator.lower(), context.get(key.lower()), _strings(values)):
                return False
    return True


def _holds(operator: str, value: str | None, expected: list[str]) -> bool:
    if operator.endswith("ifexists"):
        operator = operator.removesuffix("ifexists")
        if value is None:
            return True
    negated = operator in ("stringnotequals", "stringnotlike", "arnnotequals", "arnnotlike")
    if negated:
        operator = operator.replace("not", "")
    if value is None:
        return negated
    if operator == "stringequals":
        return (value in expected) != negated
    if operator == "stringequalsignorecase":
        return value.lower() in [text.lower() for text in expected]
    if operator in ("stringlike", "arnlike", "arnequals"):
        return any(_like(pattern, value) for pattern in expected) != negated
    return False


def _like(pattern: str, text: str) -> bool:
    # fnmatch has sets of characters, which policies do not have.
    return fnmatch.fnmatchcase(text, pattern.replace("[", "[[]"))


def _strings(value: Any) -> list[str]:
    return (
        [str(item) for item in value]
        if isinstance(value, list)
        else []
        if value is None
        else [str(value)]
    )


log = logging.getLogger(__name__)

#: The name of the object that is written twice, in `AWSLogs/ACCOUNT/`: validation reports objects
#: in the folders of log files and digest files only. It stays, since a trail may not delete.
CONDITION_CHECK = "opentrail-write-check"


@dataclass(frozen=True, slots=True)
class Destinations:
    """Checks a trail's destinations by using them, as the trail will.

    With `policy_enforced` a bucket's policy must allow CloudTrail the actions that AWS requires.
    """

    objects: ObjectStore
    topics: Topics
    groups: LogGroups
    keys: EncryptionKeys
    policy_enforced: bool = False
    #: Whether the store knows who writes, so that opentrail may have more rights than a caller.
    has_own_rights: bool = False
    #: Returns all trails, deleted ones with files as well.
    trails: Callable[[], Awaitable[Sequence[StoredTrail]]] | None = None

    async def verify(self, trail: Trail, before: Trail | None, account: str) -> Trail:
        """Returns the trail with its key's ARN, after testing its new settings.

        Args:
            trail: the new trail.
            before: the trail before the change, None for a new one.
            account: the caller's account, which log group and role must belong to.

        Raises:
            CloudTrailError: AWS's error: a destination is missing or refuses.
        """
        moved = before is None or trail.bucket != before.bucket  # possibly to another Region
        if trail.kms_key and (moved or before is None or trail.kms_key != before.kms_key):
            trail = replace(trail, kms_key=await self._key_arn(trail))
        if trail.topic and (before is None or trail.topic != before.topic):
            await self._check_topic(trail)
        if before is None or _place(trail) != _place(before):
            await self._check_bucket(trail)
        if before is None or _logs(trail) != _logs(before):
            await self._check_logs(trail, account)
        return trail

    async def verify_results(
        self, bucket: str, prefix: str, store_arn: str, may_write: bool | None = None
    ) -> None:
        """Returns if results of queries over an event data store may go to a bucket.

        opentrail writes them with its own rights, so the caller must be allowed to write there, or
        the bucket's policy must allow CloudTrail to.

        Args:
            bucket: the bucket.
            prefix: the prefix of the results, without slashes at its end.
            store_arn: the store, for conditions of the bucket's policy.
            may_write: whether policies let the caller write there; None if they do not decide.

        Raises:
            CloudTrailError: AWS's error: the bucket is missing or refuses, or a trail writes there.
        """
        await self.refuse_trails_folder(bucket, prefix)
        needs_policy = self.has_own_rights if may_write is None else not may_write
        try:
            await self.objects.check_bucket(bucket)
            if self.policy_enforced or needs_policy:
                policy = (await self.objects.describe_bucket(bucket)).policy
                under = f"{prefix}/" if prefix else ""
                if not allows_delivery(policy, bucket, under, store_arn):
                    raise _bad_policy(bucket)
        except ObjectMissing as error:
            raise _no_bucket(bucket) from error
        except ObjectStoreError as error:
            _raise_if_denied(bucket, error)
            raise

    async def refuse_trails_folder(self, bucket: str, prefix: str) -> None:
        """Refuses a prefix of results in a folder of a trail, where validation would find them.

        Raises:
            CloudTrailError: `InvalidS3PrefixException`.
        """
        for stored in await self.trails() if self.trails else ():
            trail = stored.trail
            places = {(trail.bucket, trail.prefix)}
            places |= {(span.bucket, span.prefix) for span in trail.spans}
            for own_bucket, own_prefix in places:
                root = f"{own_prefix.rstrip('/')}/AWSLogs/" if own_prefix else "AWSLogs/"
                if own_bucket == bucket and f"{prefix}/".startswith(root):
                    raise CloudTrailError(
                        "InvalidS3PrefixException",
                        f"A trail writes to s3://{bucket}/{root}, so results cannot go there.",
                    )

    async def _key_arn(self, trail: Trail) -> str:
        """Returns the ARN of the key, which must be in the bucket's Region."""
        check_kms_key(trail.kms_key)
        try:
            region = (await self.objects.describe_bucket(trail.bucket)).region
            arn = await self.keys.arn_of(trail.kms_key, region)
        except ObjectMissing as error:
            raise _no_bucket(trail.bucket) from error
        except ServiceMissing as error:
            raise CloudTrailError(
                "KmsKeyNotFoundException",
                f"The KMS key {trail.kms_key} cannot be found in {region}, the S3 bucket's Region.",
            ) from error
        except ServiceError as error:
            raise CloudTrailError("KmsException", str(error)) from error
        if arn.split(":")[3] != region:
            raise CloudTrailError(
                "KmsKeyNotFoundException",
                f"The KMS key {arn} is not in {region}, the S3 bucket's Region.",
            )
        return arn

    async def _check_bucket(self, trail: Trail) -> None:
        """Writes AWS's empty folder markers: a bucket that accepts them will accept log files.

        An object next to these folders shows whether the store heeds `If-None-Match`: of two folder
        markers that are written at the same time, SeaweedFS often accepts both.
        """
        home = trail.home.location(trail.bucket, trail.prefix)
        folders = [
            home.folder(CLOUDTRAIL),
            *([home.folder(DIGEST)] if trail.validation else []),
        ]
        try:
            await self.objects.check_bucket(trail.bucket)
            if self.policy_enforced:
                await self._check_policy(trail)
            for folder in folders:
                await self._is_written(_empty_object(trail, folder))
            await self._check_conditions(trail, f"{home.root}{CONDITION_CHECK}")
        except ObjectMissing as error:
            raise _no_bucket(trail.bucket) from error
        except ObjectStoreError as error:
            if trail.kms_key and "kms" in f"{error.code} {error}".lower():
                raise CloudTrailError(
                    "InsufficientEncryptionPolicyException",
                    "Insufficient permissions to access S3 bucket "
                    f"{trail.bucket} or KMS key {trail.kms_key}.",
                ) from error
            _raise_if_denied(trail.bucket, error)
            raise

    async def _check_policy(self, trail: Trail) -> None:
        """Checks the permissions for the account's folder, and for its organization's folder."""
        policy = (await self.objects.describe_bucket(trail.bucket)).policy
        own = DeliveryPlace("", trail.account, trail.home_region)
        for place in {own, trail.home}:
            root = place.location(trail.bucket, trail.prefix).root
            if not allows_delivery(policy, trail.bucket, root, trail.arn, trail.kms_key):
                raise _bad_policy(trail.bucket)

    async def _check_conditions(self, trail: Trail, key: str) -> None:
        """Writes an object twice at the same time: one of these writes must be refused."""
        check = _empty_object(trail, key)
        writes = await asyncio.gather(self._is_written(check), self._is_written(check))
        if all(writes):
            log.warning(
                "the store does not heed `If-None-Match: *`: an object that another program writes "
                "with the name of a log file or digest file may be overwritten",
                extra={"trail": trail.arn, "bucket": trail.bucket},
            )

    async def _is_written(self, new: NewObject) -> bool:
        try:
            await self.objects.put(new)
        except ObjectExists:
            return False
        return True

    async def _check_topic(self, trail: Trail) -> None:
        try:
            await self.topics.publish(trail.topic, SUBJECT, FIRST_MESSAGE)
        except ServiceError as error:
            extra = {"topic": trail.topic, "error": str(error)}
            log.warning("a trail's topic cannot be used", extra=extra)
            raise CloudTrailError(
                "InsufficientSnsTopicPolicyException",
                "SNS Topic does not exist or the topic policy is incorrect!",
            ) from error

    async def _check_logs(self, trail: Trail, account: str) -> None:
        if not trail.log_group and not trail.log_role:
            return
        check_log_group(trail.log_group, account)
        check_log_role(trail.log_role, account)
        stream = stream_name(trail.home)
        try:
            await self.groups.create_stream(trail.log_group, stream)
        except ServiceMissing as error:
            raise CloudTrailError(
                "InvalidCloudWatchLogsLogGroupArnException",
                f"CloudTrail cannot validate the specified log group ARN {trail.log_group}: "
                "it does not exist.",
            ) from error
        except ServiceError as error:
            raise CloudTrailError(
                "CloudWatchLogsDeliveryUnavailableException",
                f"Cannot deliver events to {trail.log_group}: {error}",
            ) from error


def _empty_object(trail: Trail, key: str) -> NewObject:
    return NewObject(
        trail.bucket,
        key,
        b"",
        content_encoding=None,
        kms_key=trail.kms_key,
        encryption_context=encryption_context(trail.arn),
    )


def _place(trail: Trail) -> tuple[object, ...]:
    return trail.bucket, trail.prefix, trail.kms_key, trail.validation, trail.organization


def _logs(trail: Trail) -> tuple[str, str]:
    return trail.log_group, trail.log_role


def _no_bucket(bucket: str) -> CloudTrailError:
    return CloudTrailError("S3BucketDoesNotExistException", f"S3 bucket {bucket} does not exist!")


def _raise_if_denied(bucket: str, error: ObjectStoreError) -> None:
    if "Denied" in error.code or error.code == "403":
        raise _bad_policy(bucket) from error


def _bad_policy(bucket: str) -> CloudTrailError:
    return CloudTrailError(
        "InsufficientS3BucketPolicyException",
        f"Incorrect S3 bucket policy is detected for bucket: {bucket}",
    )
