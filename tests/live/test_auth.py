"""`--auth enforced` with real SDKs: accepted calls, refused calls and their records."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import cbor2
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from opentrail.core.identity import key_for_account
from tests.capture.proxy.wires import Wire, ok, resigning, scripted
from tests.live.processes import TIMEOUT_SECONDS, Opentrail, eventually, opentrail_server

pytestmark = pytest.mark.live

#: Otherwise boto3 signs URLs and forms with version 2, which the server cannot verify.
V4 = Config(signature_version="s3v4", s3={"addressing_style": "path"})
UNKNOWN_KEY = key_for_account("123456789012", tail=b"none")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("1", id="one process"),
        pytest.param("2", id="two recorders", marks=pytest.mark.campaign),
    ],
)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("auth") / "data"
    flags = (
        "--auth",
        "enforced",
        "--bucket-policy-check",
        "permissive",
        "--recorders",
        request.param,
    )
    with opentrail_server(folder, *flags, command="sandbox") as made:
        yield made


def create_key(server: Opentrail, *arguments: str) -> dict[str, Any]:
    """Returns a new access key from `opentrail keys`."""
    done = server.opentrail("keys", "create", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def client_of(server: Opentrail, service: str, key: dict[str, Any]) -> Any:
    return boto3.session.Session(
        key["AccessKeyId"], key["SecretAccessKey"], key.get("SessionToken"), "us-east-1"
    ).client(service, endpoint_url=server.url, config=V4 if service == "s3" else None)


def record_of(server: Opentrail, expression: str) -> dict[str, Any]:
    """Returns the newest record that matches."""
    flags = ("--all-categories", "--all-regions", "--limit", "1", "--json")
    done = server.opentrail("lookup", expression, *flags)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[0])
    return record


def is_verified(record: dict[str, Any]) -> bool:
    return bool(record["additionalEventData"]["opentrail"]["verified"])


def test_new_keys_calls_are_verified(server: Opentrail) -> None:
    john = create_key(server, "--user", "John")
    client_of(server, "iam", john).create_user(UserName="Mary")
    record = record_of(server, "eventName=CreateUser AND user=John")
    assert record["userIdentity"]["arn"] == "arn:aws:iam::123456789012:user/John"
    assert is_verified(record)


def test_a_forged_signature_is_refused_and_recorded(server: Opentrail) -> None:
    jane = create_key(server, "--user", "Jane")
    forged = {**jane, "SecretAccessKey": "not the secret"}
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client_of(server, "iam", forged).create_user(UserName="Eve")
    assert refused.value.response["Error"]["Code"] == "SignatureDoesNotMatch"
    record = record_of(server, f"eventName=CreateUser AND accessKeyId={jane['AccessKeyId']}")
    assert record["errorCode"] == "SignatureDoesNotMatch"
    assert record["userIdentity"] == {
        "type": "Unknown",
        "accountId": "123456789012",
        "accessKeyId": jane["AccessKeyId"],
    }
    assert not is_verified(record)
    users = client_of(server, "iam", jane).list_users()["Users"]
    assert "Eve" not in [user["UserName"] for user in users]


def test_placeholder_signature_is_forwarded_with_its_caller_recorded(tmp_path: Path) -> None:
    def upstream_of(wire: Wire) -> None:
        wire.request()
        wire.send(ok(b"<ListUsersResponse/>"))

    with (
        scripted(upstream_of) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server,
    ):
        jane = create_key(server, "--user", "Jane")["AccessKeyId"]
        claim = f"AWS4-HMAC-SHA256 Credential={jane}/20260101/us-east-1/iam/aws4_request"
        heads = [f"{claim}, SignedHeaders=host, Signature=abc", f"{claim}, Signature=x", claim]
        body = "Action=ListUsers&Version=2010-05-08"
        for head in heads:
            wire = Wire.to(server.url).send(
                f"POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {head}\r\nContent-Type: "
                f"application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            )
            assert wire.answer()[0] == 200, head
        records = server.records("eventName=ListUsers")
    assert [record["userIdentity"]["userName"] for record in records] == ["Jane"] * len(heads)


@pytest.mark.parametrize("auth", ["enforced", "permissive"])
def test_a_header_with_a_second_credential_is_refused(tmp_path: Path, auth: str) -> None:
    reached: list[bytes] = []
    digits = "0" * 64

    def upstream_of(wire: Wire) -> None:
        reached.append(wire.rest())

    with (
        scripted(upstream_of) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream.url, "--auth", auth) as server,
    ):
        jane = create_key(server, "--user", "Jane")["AccessKeyId"]
        known, unknown = (f"{key}/20260101/us-east-1/iam/aws4_request" for key in (jane, "test"))
        heads = [
            f"AWS4-HMAC-SHA256 Credential={unknown}, Credential={known}, SignedHeaders=host, "
            f"Signature={digits}",
            f"AWS4-HMAC-SHA256 Credential={unknown}, SignedHeaders=host, Signature={jane}/",
            f"AWS4-HMAC-SHA256 {known}",
            f"x AWS4-HMAC-SHA256 Credential={known}, SignedHeaders=host, Signature={digits}",
        ]
        body = "Action=ListUsers&Version=2010-05-08"
        for head in heads:
            wire = Wire.to(server.url).send(
                f"POST / HTTP/1.1\r\nHost: localhost\r\nAuthorization: {head}\r\nContent-Type: "
                f"application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}"
            )
            status, _, text = wire.answer()
            assert (status, b"IncompleteSignature" in text) == (400, True), head
        found = server.opentrail(
            "lookup", "eventName=ListUsers", "--all-categories", "--limit", "9", "--json"
        )
    records = [json.loads(line) for line in found.stdout.splitlines()]
    assert [record["errorCode"] for record in records] == ["IncompleteSignature"] * len(heads)
    assert jane not in found.stdout
    assert reached == []


def test_forged_late_body_is_recorded_and_never_complete(
    tmp_path: Path,
) -> None:
    has_head, seen = threading.Event(), []

    def upstream_of(wire: Wire) -> None:
        seen.append(wire.until(b"\r\n\r\n"))
        has_head.set()
        seen.append(wire.rest())

    body = b"Action=CreateUser&Version=2010-05-08&UserName=Eve"
    with (
        scripted(upstream_of) as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream.url, "--auth", "enforced"
        ) as server,
    ):
        jane = create_key(server, "--user", "Jane")
        form = {"Content-Type": "application/x-www-form-urlencoded"}
        request = AWSRequest("POST", f"{server.url}/", form, body)
        SigV4Auth(Credentials(jane["AccessKeyId"], "wrong"), "iam", "us-east-1").add_auth(request)
        lines = [f"{name}: {value}\r\n" for name, value in request.headers.items()]
        host = server.url.partition("://")[2]
        head = f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n"
        wire = Wire.to(server.url).send(head + "".join(lines) + "\r\n")
        assert has_head.wait(TIMEOUT_SECONDS)
        assert wire.send(body.decode()).answer()[0] == 403
        record = record_of(server, "eventName=CreateUser")
    assert record["requestParameters"] is None or "Eve" in str(record["requestParameters"])
    assert record["errorCode"] == "SignatureDoesNotMatch"
    assert body not in b"".join(seen)


def test_a_forged_call_of_our_api_is_refused(server: Opentrail) -> None:
    jane = create_key(server, "--user", "Jane")
    forged = {**jane, "SecretAccessKey": "not the secret"}
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client_of(server, "cloudtrail", forged).describe_trails()
    assert refused.value.response["Error"]["Code"] == "InvalidSignatureException"
    unknown = {"AccessKeyId": UNKNOWN_KEY, "SecretAccessKey": "any"}
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client_of(server, "cloudtrail", unknown).describe_trails()
    assert refused.value.response["Error"]["Code"] == "UnrecognizedClientException"


def test_unknown_keys_calls_are_left_to_upstreams(tmp_path: Path) -> None:
    with opentrail_server(tmp_path / "data", "--auth", "verify", command="sandbox") as server:
        unknown = {"AccessKeyId": UNKNOWN_KEY, "SecretAccessKey": "any"}
        client_of(server, "iam", unknown).create_user(UserName="Ursula")
        record = record_of(server, f"accessKeyId={UNKNOWN_KEY}")
        assert not is_verified(record)


def test_unverified_call_is_not_re_signed(tmp_path: Path) -> None:
    signers = []

    def upstream_of(wire: Wire) -> None:
        head, _ = wire.request()
        signers.append(b"AKIAOURS" in head)
        wire.send(ok(b"<ListUsersResponse><ListUsersResult/></ListUsersResponse>"))

    with scripted(upstream_of) as upstream:
        config = resigning(tmp_path, upstream.url)
        flags = ("--config", config, "--auth", "verify", "--upstream-check", "off")
        with opentrail_server(tmp_path / "data", *flags) as server:
            unknown = {"AccessKeyId": UNKNOWN_KEY, "SecretAccessKey": "any"}
            with pytest.raises(botocore.exceptions.ClientError) as refused:
                client_of(server, "iam", unknown).list_users()
            assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"
            assert signers == []
            client_of(server, "iam", create_key(server, "--user", "Kim")).list_users()
            assert signers == [True]


def test_disabled_and_rotated_keys_are_refused_immediately(server: Opentrail) -> None:
    key = create_key(server, "--user", "Rob")
    client_of(server, "iam", key).list_users()
    rotated = server.opentrail("keys", "rotate", key["AccessKeyId"], "--json")
    new = json.loads(rotated.stdout)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client_of(server, "iam", key).list_users()
    assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"
    client_of(server, "iam", new).list_users()
    assert server.opentrail("keys", "disable", new["AccessKeyId"]).returncode == 0
    with pytest.raises(botocore.exceptions.ClientError):
        client_of(server, "iam", new).list_users()
    assert server.opentrail("keys", "enable", new["AccessKeyId"]).returncode == 0
    client_of(server, "iam", new).list_users()


def test_a_temporary_key_needs_its_session_token(server: Opentrail) -> None:
    session = create_key(
        server, "--principal", "arn:aws:sts::123456789012:assumed-role/Dev/jo", "--lifetime", "1h"
    )
    client_of(server, "iam", session).list_roles()
    record = record_of(server, f"accessKeyId={session['AccessKeyId']}")
    assert record["userIdentity"]["sessionContext"]["sessionIssuer"]["userName"] == "Dev"
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        client_of(server, "iam", {**session, "SessionToken": None}).list_roles()
    assert refused.value.response["Error"]["Code"] == "InvalidClientTokenId"


def test_uploads_of_every_kind_pass(server: Opentrail) -> None:
    key = create_key(server, "--user", "Uma")
    s3 = client_of(server, "s3", key)
    s3.create_bucket(Bucket="uploads")
    s3.put_object(Bucket="uploads", Key="small", Body=b"hello")
    big = bytes(range(256)) * 40_000
    s3.upload_fileobj(io.BytesIO(big), "uploads", "big")
    assert s3.get_object(Bucket="uploads", Key="big")["Body"].read() == big
    url = s3.generate_presigned_url("put_object", {"Bucket": "uploads", "Key": "presigned"})
    assert requests.put(url, b"by link", timeout=30).status_code == 200
    assert s3.get_object(Bucket="uploads", Key="presigned")["Body"].read() == b"by link"
    for name in ("PutObject", "UploadPart"):
        record = record_of(server, f"eventName={name} AND user=Uma")
        assert is_verified(record)


def test_a_changed_body_never_reaches_the_bucket(server: Opentrail) -> None:
    key = create_key(server, "--user", "Vera")
    s3 = client_of(server, "s3", key)
    s3.create_bucket(Bucket="tampered")

    def change(request: Any, **_more: Any) -> None:
        request.body = b"x" * 3_000_000

    s3.meta.events.register("before-send.s3.PutObject", change)
    with pytest.raises(botocore.exceptions.ClientError) as refused:
        s3.put_object(Bucket="tampered", Key="secret", Body=b"y" * 3_000_000)
    assert refused.value.response["Error"]["Code"] == "XAmzContentSHA256Mismatch"
    assert s3.list_objects_v2(Bucket="tampered")["KeyCount"] == 0
    record = record_of(server, "eventName=PutObject AND errorCode=XAmzContentSHA256Mismatch")
    assert not is_verified(record)


def test_a_form_needs_a_signed_policy(server: Opentrail) -> None:
    key = create_key(server, "--user", "Fay")
    s3 = client_of(server, "s3", key)
    s3.create_bucket(Bucket="forms")
    form = s3.generate_presigned_post("forms", "by-form")
    assert _post(form["url"], form["fields"]) == 204
    assert is_verified(record_of(server, "eventName=PostObject"))
    form["fields"]["x-amz-signature"] = "0" * 64
    assert _post(form["url"], {**form["fields"], "key": "forged"}) == 403
    assert s3.list_objects_v2(Bucket="forms")["KeyCount"] == 1


def _post(url: str, fields: dict[str, str]) -> int:
    return requests.post(url, fields, files={"file": b"abc"}, timeout=30).status_code


def test_policies_decide_the_calls_of_a_user(server: Opentrail, tmp_path: Path) -> None:
    reader = create_key(server, "--user", "Rita", "--policy", "AWSCloudTrail_ReadOnlyAccess")
    trails = client_of(server, "cloudtrail", reader)
    assert trails.describe_trails()["ResponseMetadata"]["HTTPStatusCode"] == 200
    with pytest.raises(botocore.exceptions.ClientError) as denied:
        trails.delete_trail(Name="any")
    assert denied.value.response["Error"]["Code"] == "AccessDeniedException"
    assert denied.value.response["Error"]["Message"] == (
        "User: arn:aws:iam::123456789012:user/Rita is not authorized to perform: "
        "cloudtrail:DeleteTrail on resource: arn:aws:cloudtrail:us-east-1:123456789012:trail/any "
        "because no identity-based policy allows the cloudtrail:DeleteTrail action"
    )
    record = record_of(server, "eventName=DeleteTrail AND user=Rita")
    assert record["errorCode"] == "AccessDenied"
    file = tmp_path / "DeleteTrails.json"
    allowed = {"Effect": "Allow", "Action": "cloudtrail:DeleteTrail", "Resource": "*"}
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [allowed]}))
    attached = server.opentrail("policy", "attach", str(file), "--user", "Rita")
    assert attached.stdout.strip().endswith("user/Rita: AWSCloudTrail_ReadOnlyAccess, DeleteTrails")
    with pytest.raises(botocore.exceptions.ClientError) as unknown:
        trails.delete_trail(Name="any")
    assert unknown.value.response["Error"]["Code"] == "TrailNotFoundException"
    assert server.opentrail("policy", "detach", "DeleteTrails", "--user", "Rita").returncode == 0
    with pytest.raises(botocore.exceptions.ClientError) as denied:
        trails.delete_trail(Name="any")
    assert denied.value.response["Error"]["Code"] == "AccessDeniedException"


def test_accounts_do_not_see_each_other(server: Opentrail) -> None:
    theirs = create_key(server, "--root", "--account", "111122223333")
    ours = create_key(server, "--root")
    client_of(server, "s3", ours).create_bucket(Bucket="ours")
    arn = client_of(server, "cloudtrail", ours).create_trail(Name="ours", S3BucketName="ours")
    other = client_of(server, "cloudtrail", theirs)
    assert other.describe_trails()["trailList"] == []
    for name in (arn["TrailARN"], arn["TrailARN"].replace("ours", "none")):
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            other.get_trail_status(Name=name)
        assert refused.value.response["Error"]["Code"] == "TrailNotFoundException"
        assert refused.value.response["Error"]["Message"] == (
            f"Unknown trail: {name} for the user: 111122223333"
        )
    events = [json.loads(e["CloudTrailEvent"]) for e in other.lookup_events()["Events"]]
    assert {event["recipientAccountId"] for event in events} <= {"111122223333"}


def test_console_changes_are_recorded_with_the_user(server: Opentrail) -> None:
    made = server.opentrail("users", "create", "olga", "--role", "operator", "--json")
    once = json.loads(made.stdout)["password"]
    server.boto("s3").create_bucket(Bucket="by-console")
    browser = requests.Session()
    browser.headers.update({"x-ot-csrf": "1", "Origin": server.console})

    def post(path: str, **body: Any) -> requests.Response:
        return browser.post(f"{server.console}/api/v1/{path}", json=body, timeout=30)

    signed_in = post("login", name="olga", password=once, newPassword="correct horse battery")
    assert signed_in.ok, signed_in.text
    created = post("aws/CreateTrail", Name="by-console", S3BucketName="by-console")
    assert created.status_code == 200, created.text
    record = record_of(server, "eventName=CreateTrail AND user=olga")
    assert record["requestParameters"]["name"] == "by-console"
    assert is_verified(record)


@pytest.mark.campaign
def test_aws_cli_and_every_paginator_work(server: Opentrail) -> None:
    reader = create_key(server, "--user", "Pia", "--policy", "AWSCloudTrail_ReadOnlyAccess")
    trails = client_of(server, "cloudtrail", reader)
    pages = {
        "list_public_keys": {},
        "list_trails": {},
        "lookup_events": {"PaginationConfig": {"PageSize": 2, "MaxItems": 6}},
    }
    for operation, given in pages.items():
        assert list(trails.get_paginator(operation).paginate(**given))
    keys = {"key": reader["AccessKeyId"], "secret": reader["SecretAccessKey"]}
    assert "trailList" in json.loads(server.aws("cloudtrail", "describe-trails", **keys))
    listed = json.loads(server.aws("cloudtrail", "lookup-events", "--max-items", "3", **keys))
    assert len(listed["Events"]) == 3
    refused = server.try_aws("cloudtrail", "stop-logging", "--name", "any", **keys)
    assert "AccessDeniedException" in refused.stderr


def test_a_call_may_be_repeated_within_a_second(server: Opentrail) -> None:
    root = create_key(server, "--root")
    client_of(server, "s3", root).create_bucket(Bucket="twice")
    trails = client_of(server, "cloudtrail", root)
    trails.create_trail(Name="twice", S3BucketName="twice")
    for _ in range(3):
        trails.start_logging(Name="twice")
    trails.delete_trail(Name="twice")


def test_the_api_speaks_cbor(server: Opentrail) -> None:
    root = create_key(server, "--root")
    headers = {"Content-Type": "application/cbor", "Smithy-Protocol": "rpc-v2-cbor"}
    url = f"{server.url}/service/CloudTrail_20131101/operation/ListPublicKeys"
    body = cbor2.dumps({})
    request = AWSRequest("POST", url, headers, body)
    keys = Credentials(root["AccessKeyId"], root["SecretAccessKey"])
    SigV4Auth(keys, "cloudtrail", "us-east-1").add_auth(request)
    answer = requests.post(url, body, headers=dict(request.headers), timeout=30)
    assert answer.headers["Smithy-Protocol"] == "rpc-v2-cbor"
    assert isinstance(cbor2.loads(answer.content)["PublicKeyList"], list)
    assert "errorCode" not in record_of(server, "eventName=ListPublicKeys")


def test_too_many_wrong_signatures_lock_the_key(server: Opentrail) -> None:
    key = create_key(server, "--user", "Mallory")
    forged = {**key, "SecretAccessKey": "guess"}
    iam, codes = client_of(server, "iam", forged), []
    for _ in range(60):
        with pytest.raises(botocore.exceptions.ClientError) as refused:
            iam.list_users()
        codes.append(refused.value.response["ResponseMetadata"]["HTTPStatusCode"])
        if codes[-1] == 429:
            break
    assert codes[:20] == [403] * 20
    assert codes[-1] == 429


def test_trails_deliver_and_the_console_opens(server: Opentrail, tmp_path: Path) -> None:
    """The server's own calls are also accepted."""
    s3 = server.boto("s3")
    s3.create_bucket(Bucket="trail-logs")
    trails = server.boto("cloudtrail")
    trails.create_trail(Name="all", S3BucketName="trail-logs")
    trails.start_logging(Name="all")
    done = server.opentrail("trail", "flush", "all")
    assert done.returncode == 0, done.stderr
    assert s3.list_objects_v2(Bucket="trail-logs")["KeyCount"] > 0


def test_a_store_is_shared_with_another_account(server: Opentrail) -> None:
    policy = ("--policy", "AWSCloudTrail_FullAccess")
    owner = client_of(server, "cloudtrail", create_key(server, "--user", "Olga", *policy))
    elsewhere = create_key(server, "--account", "210987654321", "--user", "Otto", *policy)
    other = client_of(server, "cloudtrail", elsewhere)
    store = owner.create_event_data_store(Name="of-olga")["EventDataStoreArn"]
    owner.list_trails()
    statement = f"SELECT count(*) AS n FROM {store[-36:]} WHERE eventName = 'ListTrails'"  # noqa: S608
    shared = {"EventDataStoreOwnerAccountId": "123456789012"}
    with pytest.raises(ClientError, match="EventDataStoreNotFound"):
        other.start_query(QueryStatement=statement, **shared)
    allowed = {
        "Effect": "Allow",
        "Principal": {"AWS": "210987654321"},
        "Action": ["cloudtrail:StartQuery", "cloudtrail:GetQueryResults"],
        "Resource": store,
    }
    owner.put_resource_policy(
        ResourceArn=store, ResourcePolicy=json.dumps({"Statement": [allowed]})
    )
    given = {**other.start_query(QueryStatement=statement, **shared), **shared}
    del given["ResponseMetadata"]

    def ended() -> Any:
        results = other.get_query_results(**given)
        return results if results["QueryStatus"] == "FINISHED" else None

    assert eventually(ended, "the query finishes")["QueryResultRows"] == [[{"n": "1"}]]
    with pytest.raises(ClientError, match="EventDataStoreNotFound"):
        other.start_query(QueryStatement=f"{statement} UNION TABLE event_history", **shared)
