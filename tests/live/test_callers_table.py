"""`--auth verify` and `enforced` handle each call as the page says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

from opentrail.core.identity import key_for_account
from tests.live.processes import TIMEOUT_SECONDS, Opentrail, moto_server, opentrail_server

pytestmark = pytest.mark.live

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/howto/let-in-only-known-callers.md"
#: Columns of the page -> the server's flags.
COLUMNS = {
    "`--auth verify`": ("--auth", "verify"),
    "`--auth enforced`": ("--auth", "enforced"),
    "`enforced` with `--unsigned sign-in`": ("--auth", "enforced", "--unsigned", "sign-in"),
}
UNKNOWN = {
    "AccessKeyId": key_for_account("123456789012", tail=b"none"),
    "SecretAccessKey": "any",
}
BUCKET, OBJECT = "bucket", "/bucket/key"
FORM = "application/x-www-form-urlencoded"
IAM = "Action=ListUsers&Version=2010-05-08"
API = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101."
Key = Mapping[str, str]


@dataclass
class Caller:
    """A caller of one server, with a known key."""

    server: Opentrail
    key: Key

    def send(self, method: str, target: str, body: str = "", **headers: str) -> requests.Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        url = self.server.url + target
        return requests.request(method, url, data=body, headers=named, timeout=TIMEOUT_SECONDS)

    def signed(
        self, key: Key, service: str, method: str, target: str, body: str = "", **headers: str
    ) -> requests.Response:
        """Sends a call signed with a key."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = AWSRequest(method, self.server.url + target, named, body)
        credentials = Credentials(
            key["AccessKeyId"], key["SecretAccessKey"], key.get("SessionToken")
        )
        SigV4Auth(credentials, service, "us-east-1").add_auth(request)
        return self.send(method, target, body, **dict(request.headers.items()))

    def s3(self, key: Key) -> Any:
        config = Config(signature_version="s3v4", s3={"addressing_style": "path"})
        return boto3.client(
            "s3",
            "us-east-1",
            endpoint_url=self.server.url,
            aws_access_key_id=key["AccessKeyId"],
            aws_secret_access_key=key["SecretAccessKey"],
            config=config,
        )

    def link(self, key: Key) -> requests.Response:
        """Follows a presigned URL."""
        link = self.s3(key).generate_presigned_url("get_object", {"Bucket": BUCKET, "Key": "key"})
        return requests.get(link, timeout=TIMEOUT_SECONDS)

    def form(self, key: Key) -> requests.Response:
        """Uploads with a browser's form."""
        form = self.s3(key).generate_presigned_post(BUCKET, "form")
        files = {"file": b"abc"}
        return requests.post(form["url"], form["fields"], files=files, timeout=TIMEOUT_SECONDS)

    def users(self, key: Key) -> requests.Response:
        return self.signed(key, "iam", "POST", "/", IAM, Content_Type=FORM)

    def trails(self, key: Key) -> requests.Response:
        target = API + "ListTrails"
        return self.signed(key, "cloudtrail", "POST", "/", "{}", X_Amz_Target=target)

    def new_key(self, *arguments: str) -> Key:
        done = self.server.opentrail("keys", "create", *arguments, "--json")
        key: Key = json.loads(done.stdout)
        return key


def disabled(caller: Caller) -> requests.Response:
    key = caller.new_key("--user", "Dan")
    assert caller.server.opentrail("keys", "disable", key["AccessKeyId"]).returncode == 0
    return caller.users(key)


def without_token(caller: Caller) -> requests.Response:
    key = dict(caller.new_key("--user", "Tom", "--lifetime", "1h"))
    del key["SessionToken"]
    return caller.users(key)


def with_second_key(caller: Caller) -> requests.Response:
    other = caller.new_key("--user", "Sue")["AccessKeyId"]
    body = f"{IAM}&AWSAccessKeyId={other}"
    return caller.signed(caller.key, "iam", "POST", "/", body, Content_Type=FORM)


#: The page's rows: a call, and how it is sent.
ROWS: dict[str, Callable[[Caller], requests.Response]] = {
    "signed with a key in the key directory": lambda a: a.users(a.key),
    "a presigned URL of such a key": lambda a: a.link(a.key),
    "an upload form of such a key": lambda a: a.form(a.key),
    "signed with a wrong secret": lambda a: a.users({**a.key, "SecretAccessKey": "wrong"}),
    "signed with a disabled key": disabled,
    "signed with a temporary key, without its token": without_token,
    "also names a second key of the directory": with_second_key,
    "signed with another key": lambda a: a.users(UNKNOWN),
    "a presigned URL of another key": lambda a: a.link(UNKNOWN),
    "an upload form of another key": lambda a: a.form(UNKNOWN),
    "unsigned: reads a public object": lambda a: a.send("GET", OBJECT),
    "unsigned: deletes an IAM user": lambda a: a.send(
        "POST", "/", "Action=DeleteUser&Version=2010-05-08&UserName=Eve", Content_Type=FORM
    ),
    "unsigned: deletes a DynamoDB table": lambda a: a.send(
        "POST", "/", '{"TableName": "t"}', X_Amz_Target="DynamoDB_20120810.DeleteTable"
    ),
    "unsigned: a CORS preflight request to S3": lambda a: a.send(
        "OPTIONS", OBJECT, Origin="https://a.example", Access_Control_Request_Method="GET"
    ),
    "unsigned sign-in: `AssumeRoleWithWebIdentity`": lambda a: a.send(
        "POST",
        "/",
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleSessionName=any&WebIdentityToken="
        "token&RoleArn=arn:aws:iam::123456789012:role/web",
        Content_Type=FORM,
    ),
    "unsigned sign-in: Cognito's `GetId`": lambda a: a.send(
        "POST", "/", '{"IdentityPoolId": "p"}', X_Amz_Target="AWSCognitoIdentityService.GetId"
    ),
    "a bearer token instead of a signature": lambda a: a.send(
        "GET", OBJECT, Authorization="Bearer token"
    ),
    "unsigned, to opentrail's CloudTrail API": lambda a: a.send(
        "POST", "/", "{}", X_Amz_Target=API + "ListTrails"
    ),
    "signed with another key, to that API": lambda a: a.trails(UNKNOWN),
    "signed with a key in the key directory, to that API": lambda a: a.trails(a.key),
}


@pytest.fixture(scope="module")
def callers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Caller]]:
    with ExitStack() as stack:
        upstream = stack.enter_context(moto_server())
        requests.put(f"{upstream}/{BUCKET}", timeout=TIMEOUT_SECONDS)
        requests.put(upstream + OBJECT, b"x", timeout=TIMEOUT_SECONDS)
        made = []
        for flags in COLUMNS.values():
            folder = tmp_path_factory.mktemp("callers") / "data"
            server = opentrail_server(folder, "--upstream", upstream, *flags)
            caller = Caller(stack.enter_context(server), {})
            caller.key = caller.new_key("--user", "Ann", "--policy", "AWSCloudTrail_FullAccess")
            made.append(caller)
        yield made


def outcome(caller: Caller, send: Callable[[Caller], requests.Response]) -> str:
    """Returns how the server handled a call, by its record and its answer."""
    known = {record["eventID"] for record in caller.server.records()}
    answer = send(caller)
    [record] = [each for each in caller.server.records() if each["eventID"] not in known]
    own = record["additionalEventData"]["opentrail"]
    if "failure" in own:
        assert not own["verified"]
        assert record["errorCode"] in answer.text
        return f"{answer.status_code} `{record['errorCode']}`"
    return "accepted" if own["verified"] else "forwarded"


def test_page_has_the_outcome_of_each_call(callers: list[Caller]) -> None:
    head = ["call", *COLUMNS]
    lines = [head, ["---"] * len(head)]
    lines += [[row, *(outcome(caller, send) for caller in callers)] for row, send in ROWS.items()]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    assert table in PAGE.read_text(), table
