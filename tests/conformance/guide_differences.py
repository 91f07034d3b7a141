"""Compares opentrail's records with those in AWS's guides, member by member.

`ROWS` are the lasting differences, each with its reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

#: Members decided by a call and its answer. The others depend on caller, time and place.
MEMBERS = (
    *("eventSource", "eventName", "awsRegion", "errorCode", "errorMessage"),
    *("requestParameters", "responseElements", "additionalEventData", "readOnly", "resources"),
    *("eventType", "apiVersion", "managementEvent", "eventCategory"),
)
_SECOND_COMMA = re.compile(r"^([A-Z][a-z]{2} \d+, \d{4}),(?= \d)")

#: AWS's record has a member that ours does not have, ours has one more, or the values differ.
How = Literal["missing", "added", "other"]


@dataclass(frozen=True, slots=True)
class Difference:
    """A member in which two records differ."""

    member: str
    how: How
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        """Returns the difference in a line."""
        values = {
            "missing": _short(self.theirs),
            "added": _short(self.ours),
            "other": f"{_short(self.theirs)}, ours {_short(self.ours)}",
        }
        return f"{self.member}: {self.how} {values[self.how]}"


@dataclass(frozen=True, slots=True)
class Row:
    """Lasting differences.

    Attributes:
        examples: their titles; `*` matches any string.
        members: the members, with everything in them.
        how: the kind of difference.
        reason: the reason to keep them.
        ours: the values in our records; by default any.
    """

    examples: str
    members: tuple[str, ...]
    how: How
    reason: str
    ours: tuple[Any, ...] = ()

    def covers(self, title: str, difference: Difference) -> bool:
        """Returns whether a difference of an example is one of these."""
        return (
            difference.how == self.how
            and fnmatchcase(title, self.examples)
            and (not self.ours or difference.ours in self.ours)
            and any(_is_within(difference.member, member) for member in self.members)
        )


def _is_within(member: str, whole: str) -> bool:
    return member == whole or member.startswith((f"{whole}.", f"{whole}["))


@dataclass(slots=True)
class Comparison:
    """The number of AWS's members that our record has, and the differences."""

    equal: int
    differences: list[Difference]


def compared(record: Mapping[str, Any], ours: Mapping[str, Any]) -> Comparison:
    """Compares AWS's record with ours."""
    comparison = Comparison(0, [])
    published = {name: record[name] for name in MEMBERS if name in record}
    _compare(published, {n: ours[n] for n in MEMBERS if n in ours}, "", comparison)
    return comparison


def _compare(theirs: Any, ours: Any, path: str, into: Comparison) -> None:
    for place, one, other in _pairs(theirs, ours, path):
        if one is _ABSENT or other is _ABSENT:
            how: How = "added" if one is _ABSENT else "missing"
            into.differences.append(Difference(place, how, one, other))
        elif isinstance(one, dict | list) and one and type(one) is type(other) and other:
            _compare(one, other, place, into)
        elif _is_equal(one, other):
            into.equal += 1
        else:
            into.differences.append(Difference(place, "other", one, other))


class _Absent:
    """Stands for a member missing in one of two records."""


_ABSENT = _Absent()


def _pairs(theirs: Any, ours: Any, path: str) -> Iterator[tuple[str, Any, Any]]:
    """Yields the members of two objects or two lists side by side."""
    if isinstance(theirs, list):
        for index in range(max(len(theirs), len(ours))):
            yield f"{path}[{index}]", _item(theirs, index), _item(ours, index)
        return
    for name in dict.fromkeys([*theirs, *ours]):
        place = f"{path}.{name}" if path else name
        yield place, theirs.get(name, _ABSENT), ours.get(name, _ABSENT)


def _item(items: Sequence[Any], index: int) -> Any:
    return items[index] if index < len(items) else _ABSENT


def _is_equal(one: Any, other: Any) -> bool:
    """Compares scalars; a time may have a second comma, as AWS's hosts differ."""
    if isinstance(one, str) and isinstance(other, str):
        return _SECOND_COMMA.sub(r"\1", one) == _SECOND_COMMA.sub(r"\1", other)
    return type(one) is type(other) and bool(one == other)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


_PARAMETERS, _ANSWER = "requestParameters", "responseElements"
_ADDITIONAL, _RESOURCES, _FIRST = "additionalEventData", "resources", "resources[0]"

#: Newer members of records.
NOT_YET = "the example is older than the member, or leaves it out"
_EDITED = "the example contradicts itself: AWS edited it"
_KMS_ALONE = "only KMS knows it: neither the request nor the answer contains it"
_SERVICE_ALONE = "only the service knows it: neither the request nor the answer contains it"
_API_CHANGED = "the API has changed since then"
_NO_MEMBER = "the model of the API has no such member"
_ANSWER_SINCE = "AWS now records the answer (20 of 20 records from 2023)"
_REQUEST_ID = "AWS now records the id of EC2's answer (records from 2023)"
_KEYS = (
    "the request does not show which attributes are the key, and opentrail does not record the"
    " values of others"
)
_REFUSED = "opentrail records what a refused caller asked for"
_HIDDEN = "the model marks it as sensitive, and AWS now hides it"
_UNSIGNED = "the call is not signed, so opentrail does not know the account"
_TOKEN = "the SDK adds a token that the example leaves out"
_ACCOUNT_ID = "the other examples of keys write `aWSAccountId`"
_S3_FORM = "8,636 records of S3's PutObject have a different format: `key`, x-amz headers, decimals"
_HEADERS = (
    *("Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language"),
    *("Content-Length", "Content-MD5", "Content-Type", "expires", "Key", "ObjectCannedACL"),
)
_CAPITALS = "capitals vary in the example: AWS edited it"
_CLUSTER = "the model calls the member CloudHsmClusterId"
_POOL = (
    "arn:aws:cognito-identity:us-east-1:123456789012:identitypool/"
    "us-east-1:2dg778b3-50b7-565c-0f56-34200EXAMPLE"
)
_EMPTY = "the value is empty in the guide"
_MUSIC = "arn:aws:dynamodb:us-west-2:111122223333:table/Music"
_GUIDES_MUSIC = _MUSIC.replace("111122223333", "123456789012")
_KEY = "arn:aws:kms:us-east-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
_TRANSACTION = tuple(f"{_PARAMETERS}.requestItems[{index}]" for index in (1, 2, 3))

ROWS: tuple[Row, ...] = (
    Row("*", ("managementEvent", "eventCategory"), "added", NOT_YET, (True, "Management")),
    Row("*", ("eventType",), "added", NOT_YET, ("AwsApiCall",)),
    Row("*", ("readOnly",), "added", NOT_YET),
    Row("KMS: *", (f"{_FIRST}.type", "resources[1].type"), "added", NOT_YET, ("AWS::KMS::Key",)),
    # DynamoDB
    Row(
        "DynamoDB: *Table",
        (_RESOURCES,),
        "added",
        "AWS now lists the table (eventVersion 1.06)",
        ([{"accountId": "111122223333", "type": "AWS::DynamoDB::Table", "ARN": _MUSIC}],),
    ),
    Row("DynamoDB: UpdateTable", (f"{_PARAMETERS}.tableName",), "added", "the API requires it"),
    Row("DynamoDB: GenerateDataKey", (f"{_PARAMETERS}.keyId",), "added", _EMPTY),
    Row("DynamoDB: CreateGrant", (f"{_PARAMETERS}.keyId",), "added", _EMPTY),
    Row("DynamoDB: *", (f"{_FIRST}.ARN",), "added", _EMPTY),
    Row(
        "DynamoDB: *",
        (f"{_FIRST}.ARN",),
        "other",
        _EDITED,
        (
            _MUSIC,
            _MUSIC.replace("west-2", "west-1"),
            f"{_GUIDES_MUSIC}/stream/2021-04-15T04:02:47.428",
        ),
    ),
    Row(
        "DynamoDB: CreateCluster",
        (f"{_ANSWER}.cluster.sSEDescription.kMSMasterKeyArn",),
        "missing",
        _NO_MEMBER,
    ),
    Row("DynamoDB: PutItem*", (f"{_PARAMETERS}.key",), "missing", _KEYS),
    Row("DynamoDB: Transact*", (f"{_PARAMETERS}.requestItems[0].key",), "missing", _KEYS),
    Row("DynamoDB: Transact*", _TRANSACTION, "missing", _CAPITALS),
    Row("DynamoDB: Transact*", _TRANSACTION, "added", _CAPITALS),
    Row("DynamoDB: Transact*", (f"{_PARAMETERS}.clientRequestToken",), "added", _TOKEN),
    Row("DynamoDB: ExecuteStatement", (f"{_PARAMETERS}.statement",), "other", _KEYS),
    Row("DynamoDB: BatchExecuteStatement", (f"{_PARAMETERS}.requestItems",), "other", _KEYS),
    Row("DynamoDB: GetRecords", (f"{_FIRST}.accountId",), "other", _EDITED),
    Row(
        "DynamoDB: GetRecords",
        (f"{_FIRST}.type",),
        "other",
        "the guide's list of data events gives these calls the type AWS::DynamoDB::Stream",
    ),
    # S3
    Row("S3: *", (f"{_PARAMETERS}.host",), "missing", "S3's format until 2019: `host`, and lists"),
    Row("S3: *", (f"{_PARAMETERS}.Host",), "added", "S3's format until 2019: `host`, and lists"),
    Row(
        "S3: *",
        (f"{_PARAMETERS}.acl", f"{_PARAMETERS}.versioning"),
        "other",
        "S3's format until 2019: `host`, and lists",
    ),
    Row("S3: PutBucketAcl", (f"{_PARAMETERS}.bucketName",), "added", _EMPTY),
    Row(
        "S3: PutBucketAcl",
        (f"{_PARAMETERS}.x-amz-checksum-crc32", f"{_PARAMETERS}.x-amz-sdk-checksum-algorithm"),
        "added",
        "SDKs now send checksums",
    ),
    Row(
        "S3: ListBuckets",
        (f"{_ADDITIONAL}.SignatureVersion", f"{_ADDITIONAL}.AuthenticationMethod"),
        "other",
        "the test signs with version 4, in a header",
    ),
    Row("S3: ListBuckets", (f"{_ADDITIONAL}.aclRequired",), "missing", _SERVICE_ALONE),
    Row("S3: *", (f"{_ADDITIONAL}.CipherSuite",), "missing", "the test connects without TLS"),
    Row(
        "S3: *",
        (f"{_ADDITIONAL}.bytesTransferredIn", f"{_ADDITIONAL}.bytesTransferredOut", _RESOURCES),
        "added",
        NOT_YET,
    ),
    Row("S3: PutObject", tuple(f"{_PARAMETERS}.{name}" for name in _HEADERS), "missing", _S3_FORM),
    Row("S3: PutObject", (f"{_ANSWER}.ETag",), "missing", _S3_FORM),
    Row("S3: PutObject", (f"{_PARAMETERS}.key", f"{_PARAMETERS}.x-amz-acl"), "added", _S3_FORM),
    Row("S3: PutObject", (f"{_ADDITIONAL}.bytesTransferredIn",), "other", _S3_FORM, (10.0,)),
    Row(
        "S3: PutObject",
        tuple(
            f"{member}.x-amz-server-side-encryption-customer-{what}"
            for member in (_PARAMETERS, _ANSWER)
            for what in ("algorithm", "key-MD5")
        ),
        "missing",
        "the example encrypts in two ways: AWS edited it",
    ),
    Row(
        "S3: PutObject",
        (
            f"{_PARAMETERS}.x-amz-storage-class",
            f"{_PARAMETERS}.x-amz-server-side-encryption",
            f"{_ANSWER}.x-amz-server-side-encryption",
        ),
        "other",
        "the example contains constants from an SDK, not the values that are sent",
        ("OUTPOSTS", "AES256"),
    ),
    Row(
        "S3: PutObject",
        (f"{_PARAMETERS}.bucketName", _RESOURCES),
        "other",
        "the request names the access point on the outpost, and the example names its bucket",
    ),
    Row("S3: PutObject", (f"{_ADDITIONAL}.x-amz-id-2",), "missing", "the test's answer has none"),
    Row(
        "S3: PutObject",
        (f"{_ADDITIONAL}.bytesTransferredOut",),
        "other",
        "the test's answer is empty",
        (0.0,),
    ),
    Row(
        "S3: PutObject",
        (f"{_ADDITIONAL}.opentrail",),
        "added",
        "opentrail's own block contains the headers that S3's records leave out",
    ),
    # KMS
    Row("KMS: *", (_ADDITIONAL,), "missing", _KMS_ALONE),
    Row("KMS: CreateKey (1)", (f"{_ANSWER}.keyMetadata.AWSAccountId",), "missing", _ACCOUNT_ID),
    Row("KMS: CreateKey (1)", (f"{_ANSWER}.keyMetadata.aWSAccountId",), "added", _ACCOUNT_ID),
    Row("KMS: CreateKey (3)", (_FIRST,), "other", _EDITED),
    Row("KMS: DeleteAlias", ("resources[1]",), "missing", _KMS_ALONE),
    Row(
        "KMS: CreateAlias",
        (_RESOURCES,),
        "other",
        "the alias comes first, as in AWS's later example of UpdateAlias",
    ),
    Row(
        "KMS: *", (f"{_FIRST}.ARN",), "other", "the example has two Regions: AWS edited it", (_KEY,)
    ),
    Row("KMS: ListAliases", (_RESOURCES,), "missing", "opentrail omits an empty list"),
    Row("KMS: GenerateRandom*", (_RESOURCES,), "missing", "opentrail omits an empty list"),
    Row(
        "KMS: UpdatePrimaryRegion",
        (_RESOURCES,),
        "added",
        "AWS's other examples of calls on a key list it",
    ),
    Row("*: Decrypt", (f"{_PARAMETERS}.encryptionAlgorithm",), "added", NOT_YET),
    Row("KMS: Encrypt (1)", (f"{_PARAMETERS}.encryptionAlgorithm",), "added", NOT_YET),
    Row("KMS: ScheduleKeyDeletion", (f"{_ANSWER}.deletionDate",), "other", _EDITED),
    Row("KMS: *CustomKeyStore", (f"{_PARAMETERS}.clusterId",), "missing", _CLUSTER),
    Row("KMS: *CustomKeyStore", (f"{_PARAMETERS}.cloudHsmClusterId",), "added", _CLUSTER),
    Row("KMS: CreateVolume", (f"{_PARAMETERS}.clientToken",), "added", _TOKEN),
    Row("KMS: *RunInstances", (f"{_PARAMETERS}.disableApiStop",), "added", _API_CHANGED),
    Row("*", (f"{_ANSWER}.requestId",), "added", _REQUEST_ID),
    # The others, by guide
    Row(
        "Lambda: GetFunction",
        ("eventName",),
        "other",
        "the guide says that the name may have a date and a version",
    ),
    Row("Lambda: GetFunction", (_PARAMETERS,), "other", _REFUSED),
    Row("Secrets Manager: CreateSecret", (_ANSWER,), "other", _ANSWER_SINCE),
    Row(
        "Secrets Manager: DeleteSecret",
        (f"{_ANSWER}.aRN",),
        "missing",
        "the guide says that AWS has written `arn` since February 2024",
    ),
    Row(
        "Secrets Manager: DeleteSecret",
        (f"{_ANSWER}.arn",),
        "added",
        "the guide says that AWS has written `arn` since February 2024",
    ),
    Row(
        "EKS: CreateCluster",
        (f"{_PARAMETERS}.clusterName", f"{_ANSWER}.cluster.clusterName"),
        "missing",
        _API_CHANGED,
    ),
    Row(
        "EKS: CreateCluster",
        (f"{_PARAMETERS}.name", f"{_ANSWER}.cluster.name"),
        "added",
        _API_CHANGED,
    ),
    Row("EKS: CreateCluster", (f"{_PARAMETERS}.clientRequestToken",), "added", _TOKEN),
    Row(
        "EKS: CreateCluster",
        (f"{_ANSWER}.cluster.createdAt",),
        "other",
        "the example is of 2018, before the API had its present form",
    ),
    Row(
        "EventBridge: *",
        (f"{_FIRST}.accountId",),
        "added",
        "opentrail names the owner of a resource; if that is another account, it gets a copy",
    ),
    Row("EventBridge: *(global endpoint)", ("resources[1]",), "missing", _SERVICE_ALONE),
    Row("API Gateway: GetResource", (f"{_PARAMETERS}.template",), "missing", _NO_MEMBER),
    Row("Bedrock: InvokeModel", ("readOnly",), "other", "AWS's newer records say true"),
    Row(
        "Cognito: GetCredentialsForIdentity",
        (f"{_ANSWER}.credentials.sessionToken",),
        "other",
        "opentrail hides session tokens",
    ),
    Row("Cognito: *", (f"{_FIRST}.accountId",), "other", _UNSIGNED, ("123456789012",)),
    Row("Cognito: GetId", (f"{_FIRST}.ARN",), "other", _UNSIGNED, (_POOL,)),
    Row("Cognito: *", (f"{_FIRST}.ARN",), "missing", _SERVICE_ALONE),
    Row("Step Functions: *(2016)", (f"{_PARAMETERS}.definition",), "other", _HIDDEN),
    Row("Step Functions: StartExecution", (f"{_PARAMETERS}.input",), "other", _HIDDEN),
    Row("Step Functions: DeleteStateMachine", (_PARAMETERS,), "other", _REFUSED),
    Row(
        "EC2: SendSSHPublicKey",
        (f"{_PARAMETERS}.osUser", f"{_PARAMETERS}.SSHKey"),
        "missing",
        "the service writes names that its API does not have",
    ),
    Row(
        "EC2: SendSSHPublicKey",
        (f"{_PARAMETERS}.sSHPublicKey", f"{_PARAMETERS}.instanceOSUser"),
        "added",
        "the service writes names that its API does not have",
    ),
    Row("EC2: SendSSHPublicKey", (_ANSWER,), "other", "the example leaves the answer out"),
    Row("Recycle Bin: UpdateRule", (_ANSWER,), "other", "the example leaves the answer out"),
    Row(
        "CloudTrail: *User*",
        ("awsRegion",),
        "other",
        "IAM's events are in us-east-1: AWS edited the example",
    ),
)
