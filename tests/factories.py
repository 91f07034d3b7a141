"""Whole, realistic values for tests: records as AWS writes them, entries, trails, exchanges.

Everything here is deterministic. A test passes the values it depends on; the rest is plausible.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import UUID

from botocore.awsrequest import create_request_object, prepare_request_dict
from botocore.serialize import create_serializer

from opentrail.capture.record.exchange import Exchange
from opentrail.core.event import Entry, NewEntry
from opentrail.core.identity import Identity, iam_user, key_for_account
from opentrail.core.insight_types import BURST_TYPES
from opentrail.core.trail import Trail
from opentrail.insights.findings import PrincipalFinding, principal_event
from opentrail.wire.message import Request, Response
from opentrail.wire.routing import Router
from opentrail.wire.service_models import ServiceCatalog
from opentrail.wire.sigv4 import read_credential

ACCOUNT = "123456789012"
REGION = "us-east-1"
#: Encodes `ACCOUNT`, like AWS's own keys.
KEY = key_for_account(ACCOUNT)
#: 09:00 on 1 January 2020, the moment of the reference sentence.
MOMENT = datetime(2020, 1, 1, 9, 0, tzinfo=UTC)
SOURCE_IP = "192.0.2.10"
AGENT = "aws-cli/2.15.17 Python/3.11.6 Linux/6.1 exe/x86_64 prompt/off command/iam.create-user"
HOST = "127.0.0.1:4747"

#: Members of a record in the order in which AWS writes them (cloudtrail-format §2.1).
RECORD_ORDER = (
    "eventVersion",
    "userIdentity",
    "eventTime",
    "eventSource",
    "eventName",
    "awsRegion",
    "sourceIPAddress",
    "userAgent",
    "errorCode",
    "errorMessage",
    "requestParameters",
    "responseElements",
    "additionalEventData",
    "requestID",
    "eventID",
    "readOnly",
    "resources",
    "eventType",
    "apiVersion",
    "managementEvent",
    "recipientAccountId",
    "sharedEventID",
    "vpcEndpointId",
    "vpcEndpointAccountId",
    "serviceEventDetails",
    "eventCategory",
    "tlsDetails",
    "sessionCredentialFromConsole",
)


class _Absent:
    """Stands for a member missing from a record."""

    def __repr__(self) -> str:
        return "ABSENT"


#: `a_record(errorCode=ABSENT)`: a record without this member. `None` is JSON's null.
ABSENT = _Absent()


def event_id(number: int) -> str:
    """Returns the same GUID for the same number."""
    digest = hashlib.md5(f"event {number}".encode(), usedforsecurity=False).digest()
    return str(UUID(bytes=digest, version=4))


def a_record(**changes: Any) -> dict[str, Any]:
    """Returns a complete management record: John creates Mary. Members are in AWS's order.

    A keyword sets a member, `ABSENT` leaves one out: `a_record(eventName="DeleteUser")`.
    """
    members: dict[str, Any] = {
        "eventVersion": "1.11",
        "userIdentity": an_iam_user("John"),
        "eventTime": "2020-01-01T09:00:00Z",
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateUser",
        "awsRegion": REGION,
        "sourceIPAddress": SOURCE_IP,
        "userAgent": AGENT,
        "requestParameters": {"path": "/", "userName": "Mary"},
        "responseElements": {
            "user": {
                "path": "/",
                "userName": "Mary",
                "userId": "AIDATFQR7NSCYG26CT6RI",
                "arn": f"arn:aws:iam::{ACCOUNT}:user/Mary",
                "createDate": "Jan 1, 2020 9:00:00 AM",
            }
        },
        "requestID": "68d45914-0776-4812-ba69-20fc911b49e3",
        "eventID": event_id(1),
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
        "recipientAccountId": ACCOUNT,
        "eventCategory": "Management",
        **changes,
    }
    ordered = [name for name in RECORD_ORDER if name in members]
    ordered += [name for name in members if name not in RECORD_ORDER]
    return {name: members[name] for name in ordered if members[name] is not ABSENT}


def a_data_record(**changes: Any) -> dict[str, Any]:
    """Returns a complete data record: a role session writes an S3 object."""
    return a_record(
        **{
            "userIdentity": an_assumed_role(),
            "eventSource": "s3.amazonaws.com",
            "eventName": "PutObject",
            "userAgent": f"[{AGENT}]",
            "requestParameters": {
                "bucketName": "my-bucket",
                "Host": "my-bucket.s3.us-east-1.amazonaws.com",
                "key": "in/a.csv",
            },
            "responseElements": {"x-amz-server-side-encryption": "AES256"},
            "additionalEventData": {
                "SignatureVersion": "SigV4",
                "bytesTransferredIn": 1024.0,
                "AuthenticationMethod": "AuthHeader",
                "bytesTransferredOut": 0.0,
            },
            "requestID": "A1B2C3D4E5F60718",
            "resources": [
                {"type": "AWS::S3::Object", "ARN": "arn:aws:s3:::my-bucket/in/a.csv"},
                {
                    "accountId": ACCOUNT,
                    "type": "AWS::S3::Bucket",
                    "ARN": "arn:aws:s3:::my-bucket",
                },
            ],
            "managementEvent": False,
            "eventCategory": "Data",
            **changes,
        }
    )


def an_insight_record(state: str = "Start", **details: Any) -> dict[str, Any]:
    """Returns a complete Insights record: `iam:CreateUser` is called unusually often.

    A keyword sets a member of `insightDetails`, `ABSENT` leaves one out.
    """
    attributions = [
        {
            "attribute": attribute,
            "insight": [{"value": value, "average": 8.4}],
            "baseline": [{"value": value, "average": 0.0017}],
        }
        for attribute, value in (
            ("userIdentityArn", f"arn:aws:iam::{ACCOUNT}:user/John"),
            ("userAgent", AGENT),
            ("errorCode", "null"),
        )
    ]
    members = {
        "state": state,
        "eventSource": "iam.amazonaws.com",
        "eventName": "CreateUser",
        "insightType": "ApiCallRateInsight",
        "sourceEventCategory": "Management",
        "insightContext": {
            "statistics": {
                "baseline": {"average": 0.0017},
                "insight": {"average": 8.4},
                "insightDuration": 5,
                "baselineDuration": 10080,
            },
            "attributions": attributions,
        },
        **details,
    }
    return {
        "eventVersion": "1.09",
        "eventTime": "2020-01-01T09:00:00Z",
        "awsRegion": REGION,
        "eventID": event_id(1),
        "eventType": "AwsCloudTrailInsight",
        "recipientAccountId": ACCOUNT,
        "sharedEventID": event_id(2),
        "insightDetails": {name: v for name, v in members.items() if v is not ABSENT},
        "eventCategory": "Insight",
    }


def a_principal_record(name: str = "new-api", state: str = "Start", **changes: Any) -> Any:
    """Returns a complete record of a type of Insights about principals; John did it.

    A keyword sets a member of the finding.
    """
    finding = PrincipalFinding(
        number=1,
        type=name,
        account=ACCOUNT,
        region=REGION,
        principal=f"arn:aws:iam::{ACCOUNT}:user/John",
        value="iam:CreateAccessKey" if name not in BURST_TYPES else None,
        event_source="iam.amazonaws.com",
        event_name="CreateAccessKey",
        event_id=event_id(7),
        start=1_577_869_200,  # 2020-01-01T09:00:00Z
        end=None if state == "Start" else 1_577_869_200 + 420,
        usual=0,
        observed=1,
        days=28,
    )
    made = principal_event(replace(finding, **changes), datetime(2020, 1, 1, 9, tzinfo=UTC))
    return json.loads(made.record)


def an_audit_record(**changes: Any) -> dict[str, Any]:
    """Returns the record of an event that another service sent to the channel `c`."""
    data = {
        "version": "1.0",
        "userIdentity": {"type": "Customer", "principalId": "mary@example.com"},
        "userAgent": "shop/2",
        "eventSource": "orders.example.com",
        "eventName": "CancelOrder",
        "eventTime": "2020-01-01T08:59:00Z",
        "UID": "order-7",
        "sourceIPAddress": "192.0.2.7",
        "requestParameters": {"orderId": "7"},
        "recipientAccountId": ACCOUNT,
    }
    return {
        "eventVersion": "1.0",
        "eventCategory": "ActivityAuditLog",
        "eventType": "ActivityLog",
        "eventID": event_id(7),
        "eventTime": "2020-01-01T08:59:00Z",
        "awsRegion": REGION,
        "recipientAccountId": ACCOUNT,
        "metadata": {
            "ingestionTime": "2020-01-01T09:00:00Z",
            "channelARN": f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:channel/c",
        },
        "eventData": data,
        **changes,
    }


def an_iam_user(name: str = "John", account: str = ACCOUNT, key: str = KEY) -> dict[str, Any]:
    """Returns the `userIdentity` of an IAM user."""
    return {
        "type": "IAMUser",
        "principalId": "AIDATFQR7NSC5AU2ZV3IE",
        "arn": f"arn:aws:iam::{account}:user/{name}",
        "accountId": account,
        "accessKeyId": key,
        "userName": name,
    }


def an_assumed_role(
    role: str = "DataRole", session: str = "etl", account: str = ACCOUNT
) -> dict[str, Any]:
    """Returns the `userIdentity` of a role session."""
    return {
        "type": "AssumedRole",
        "principalId": f"AROAIDPPEZS35WEXAMPLE:{session}",
        "arn": f"arn:aws:sts::{account}:assumed-role/{role}/{session}",
        "accountId": account,
        "accessKeyId": "ASIAIOSFODNN7EXAMPLE",
        "sessionContext": {
            "sessionIssuer": {
                "type": "Role",
                "principalId": "AROAIDPPEZS35WEXAMPLE",
                "arn": f"arn:aws:iam::{account}:role/{role}",
                "accountId": account,
                "userName": role,
            },
            "webIdFederationData": {},
            "attributes": {"creationDate": "2020-01-01T08:00:00Z", "mfaAuthenticated": "false"},
        },
    }


def record_bytes(record: Mapping[str, Any]) -> bytes:
    """Returns the compact JSON of a record, as the journal keeps it."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def a_new_entry(
    record: Mapping[str, Any] | None = None,
    *,
    origin: str = "recorder",
    recorded_at: datetime = MOMENT,
) -> NewEntry:
    """Returns a record on its way into the journal, with the record's own columns."""
    record = a_record() if record is None else record
    return NewEntry(
        origin=origin,
        recorded_at=recorded_at,
        account=record["recipientAccountId"],
        region=record["awsRegion"],
        category=record.get("eventCategory", "Management"),
        event_id=record["eventID"],
        record=record_bytes(record),
    )


def an_entry(
    position: int,
    record: Mapping[str, Any] | None = None,
    *,
    origin: str = "recorder",
    recorded_at: datetime = MOMENT,
    chain: bytes | None = None,
) -> Entry:
    """Returns a record in the journal; by default one whose event id contains its position."""
    record = a_record(eventID=event_id(position)) if record is None else record
    new = a_new_entry(record, origin=origin, recorded_at=recorded_at)
    return Entry(
        position=position,
        origin=new.origin,
        recorded_at=new.recorded_at,
        account=new.account,
        region=new.region,
        category=new.category,
        event_id=new.event_id,
        chain=hashlib.sha256(new.record).digest() if chain is None else chain,
        record=new.record,
    )


def some_records(count: int, first: int = 1, **changes: Any) -> list[dict[str, Any]]:
    """Returns records one second apart, with ids from `event_id(first)`."""
    return [
        a_record(
            **{
                "eventID": event_id(number),
                "eventTime": f"{MOMENT + timedelta(seconds=number):%Y-%m-%dT%H:%M:%SZ}",
                **changes,
            }
        )
        for number in range(first, first + count)
    ]


def some_new_entries(count: int, first: int = 1) -> list[NewEntry]:
    """Returns the entries of `some_records`."""
    return [a_new_entry(record) for record in some_records(count, first)]


def entries_of(records: Iterable[Mapping[str, Any]], first: int = 1) -> list[Entry]:
    """Returns the records as entries of the journal, from position `first`."""
    return [an_entry(position, record) for position, record in enumerate(records, first)]


def a_trail(**changes: Any) -> Trail:
    """Returns a trail in us-east-1 that has never logged."""
    trail = Trail(
        uid="4f1c6a52-trail",
        name="my-trail",
        account=ACCOUNT,
        home_region=REGION,
        bucket="my-bucket",
        created_at="2020-01-01T09:00:00.000000+00:00",
    )
    return replace(trail, **changes)


def an_identity(name: str = "John", account: str = ACCOUNT, key: str = KEY) -> Identity:
    """Returns the identity of an IAM user's key."""
    known = iam_user(account, name, "AIDATFQR7NSC5AU2ZV3IE", f"arn:aws:iam::{account}:user/{name}")
    return Identity(key, account, known)


@cache
def catalog() -> ServiceCatalog:
    """Returns botocore's services, read once for all tests."""
    return ServiceCatalog()


@cache
def router(*base_hosts: str) -> Router:
    """Returns a router for these host names (by default 127.0.0.1)."""
    return Router(catalog(), base_hosts or ("127.0.0.1", "localhost"))


def authorization(service: str, key: str = KEY, region: str = REGION) -> str:
    """Returns an SDK's `Authorization` header of SigV4."""
    return (
        f"AWS4-HMAC-SHA256 Credential={key}/20200101/{region}/{service}/aws4_request, "
        f"SignedHeaders=host;x-amz-date, Signature={'0123456789abcdef' * 4}"
    )


def a_request(
    service: str | None = None,
    method: str = "POST",
    path: str = "/",
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    key: str = KEY,
    region: str = REGION,
    body_is_whole: bool = True,
) -> Request:
    """Returns a request signed for `service` (unsigned if None); header names in lower case."""
    whole = {"host": HOST, "user-agent": AGENT}
    if service is not None:
        whole["authorization"] = authorization(service, key, region)
    whole.update(headers or {})
    return Request(method, path, query, whole, body, body_is_whole)


def a_json_request(
    service: str, target: str, parameters: Any, *, key: str = KEY, region: str = REGION
) -> Request:
    """Returns a request of the JSON protocol: `a_json_request("sqs", "AmazonSQS.SendMessage", …)`.

    Sends `parameters` of type bytes unchanged.
    """
    headers = {"content-type": "application/x-amz-json-1.0", "x-amz-target": target}
    body = parameters if isinstance(parameters, bytes) else json.dumps(parameters).encode()
    return a_request(service, headers=headers, body=body, key=key, region=region)


def a_query_request(
    service: str,
    action: str,
    version: str,
    parameters: Mapping[str, str] | Sequence[tuple[str, str]] = (),
    *,
    key: str = KEY,
    region: str = REGION,
    signed: bool = True,
) -> Request:
    """Returns a request of the query protocol: `a_query_request("iam", "CreateUser", …)`."""
    form = {"Action": action, "Version": version, **dict(parameters)}
    headers = {"content-type": "application/x-www-form-urlencoded; charset=utf-8"}
    body = urlencode(form).encode()
    return a_request(
        service if signed else None, headers=headers, body=body, key=key, region=region
    )


def a_response(
    body: bytes = b"", status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Returns an answer with the request id `REQUEST-ID` unless `headers` are given."""
    return Response(
        status, {"x-amzn-requestid": "REQUEST-ID"} if headers is None else headers, body
    )


def an_sdk_request(
    service: str,
    operation: str,
    parameters: Mapping[str, Any],
    *,
    protocol: str | None = None,
    key: str = KEY,
    region: str = REGION,
    signed: bool = True,
) -> Request:
    """Returns the request that botocore makes: `an_sdk_request("iam", "CreateUser", {…})`.

    `protocol` is botocore's word (`smithy-rpc-v2-cbor`), by default the first of the model.
    """
    known = catalog().services[service]
    model = known.model.operation_model(operation)
    serializer = create_serializer(protocol or known.protocols[0], include_validation=False)
    made = serializer.serialize_to_request(dict(parameters), model)
    prepare_request_dict(made, endpoint_url=f"http://{HOST}", user_agent=AGENT, context={})
    prepared = create_request_object(made).prepare()
    url = urlsplit(prepared.url)
    headers = {
        name.lower(): value if isinstance(value, str) else value.decode("latin-1")
        for name, value in prepared.headers.items()
    }
    body = prepared.body or b""
    return a_request(
        known.signing_name if signed else None,
        prepared.method,
        url.path or "/",
        url.query,
        headers,
        body if isinstance(body, bytes) else body.encode(),
        key=key,
        region=region,
    )


def an_s3_request(
    method: str,
    path: str,
    query: str = "",
    headers: Mapping[str, str] | None = None,
    body: bytes = b"",
    *,
    key: str = KEY,
    region: str = REGION,
    signed: bool = True,
    body_is_whole: bool = True,
) -> Request:
    """Returns a path-style S3 request: `an_s3_request("PUT", "/bucket/key", body=b"…")`."""
    service = "s3" if signed else None
    return a_request(
        service,
        method,
        path,
        query,
        headers,
        body,
        key=key,
        region=region,
        body_is_whole=body_is_whole,
    )


def an_exchange(
    request: Request | None = None,
    response: Response | None = None,
    *,
    answered: bool = True,
    **changes: Any,
) -> Exchange:
    """Returns an exchange; signer and operation are read from the request as the recorder does.

    Args:
        request: by default John's CreateUser of Mary.
        response: by default a successful answer without a body.
        answered: False for a call without a complete answer.
        changes: members of `Exchange`.
    """
    if request is None:
        request = a_query_request("iam", "CreateUser", "2010-05-08", {"UserName": "Mary"})
    if response is None and answered:
        response = a_response()
    credential = read_credential(request)
    values: dict[str, Any] = {
        "event_id": event_id(1),
        "started_at": MOMENT,
        "completed_at": MOMENT,
        "source_ip": SOURCE_IP,
        "request": request,
        "credential": credential,
        "route": router().identify(request, credential),
        "response": response,
        "bytes_in": len(request.body),
        "bytes_out": len(response.body) if response else 0,
        **changes,
    }
    return Exchange(**values)


@cache
def real_records() -> tuple[dict[str, Any], ...]:
    """Returns records that AWS itself wrote (`data/SOURCES.md`); do not change them."""
    text = (Path(__file__).parent / "data" / "real-records.ndjson").read_text()
    return tuple(json.loads(line) for line in text.splitlines())


def a_real_record(event_name: str, kind: str | None = None) -> dict[str, Any]:
    """Returns a real record of this event name (and kind of caller), a successful one first."""
    found = [
        record
        for record in real_records()
        if record["eventName"] == event_name and kind in (None, record["userIdentity"].get("type"))
    ]
    return min(found, key=lambda record: "errorCode" in record)
