"""Two servers on one control store in PostgreSQL: each applies the other's changes."""

from __future__ import annotations

import base64
import http.client
import json
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from tests.api.caller import TARGET
from tests.live.processes import TIMEOUT_SECONDS, Opentrail, eventually
from tests.postgres import own_server, shared_server
from tests.stub_upstream import StubUpstream

pytestmark = pytest.mark.live

Servers = tuple[Opentrail, Opentrail]
#: Longer than a key is locked after many refused calls.
SECONDS = 2 * TIMEOUT_SECONDS


def environment_for(url: str) -> dict[str, str]:
    return {
        "OPENTRAIL_CONTROL_STORE": url,
        "OPENTRAIL_MASTER_KEY": base64.b64encode(b"m" * 32).decode(),
    }


@contextmanager
def two_servers(folder: Path, url: str) -> Iterator[Servers]:
    """Two servers that start concurrently; the second has recorder processes."""
    environment = environment_for(url)
    with StubUpstream() as stub:
        flags = ("--upstream", stub.url, "--auth", "verify")
        one = Opentrail(folder / "one", *flags)
        two = Opentrail(folder / "two", *flags, "--recorders", "2")
        try:
            with ThreadPoolExecutor() as threads:
                list(threads.map(lambda server: server.start(**environment), (one, two)))
            yield one, two
        finally:
            one.close()
            two.close()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with two_servers(tmp_path_factory.mktemp("shared"), shared_server().new_database()) as both:
        yield both


def key_of(server: Opentrail, action: str, *arguments: str) -> dict[str, Any]:
    done = server.opentrail("keys", action, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    key: dict[str, Any] = json.loads(done.stdout)
    return key


def health_of(server: Opentrail) -> dict[str, Any]:
    url = f"{server.console}/health"
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310 - of this machine
        health: dict[str, Any] = json.loads(answer.read())
    return health


def control_failure(server: Opentrail) -> str | None:
    """Returns the reason why a server cannot use its control store."""
    failure: str | None = health_of(server)["controlStore"]["failure"]
    return failure


def answer_to(server: Opentrail, key: dict[str, Any]) -> str:
    """Returns the status code of a server's answer to DescribeTrails."""
    client = server.boto("cloudtrail", key["AccessKeyId"], key["SecretAccessKey"])
    try:
        client.describe_trails()
    except ClientError as error:
        return str(error.response["Error"]["Code"])
    return "ok"


def until(server: Opentrail, key: dict[str, Any], code: str) -> None:
    """Waits until a server answers a key's calls with a code, with no other code in between."""
    former = answer_to(server, key)
    eventually(lambda: answer_to(server, key) == code, f"{former} becomes {code}", SECONDS)


def test_both_servers_know_an_unrevoked_key(
    servers: Servers,
) -> None:
    one, two = servers
    key = key_of(one, "create", "--root")
    until(two, key, "ok")
    assert answer_to(one, key) == "ok"
    one.opentrail("keys", "disable", key["AccessKeyId"])
    until(two, key, "UnrecognizedClientException")
    two.opentrail("keys", "enable", key["AccessKeyId"])
    until(one, key, "ok")
    two.opentrail("keys", "delete", key["AccessKeyId"])
    until(one, key, answer_to(two, key))
    assert answer_to(one, key) != "ok"


def test_policy_on_one_server_applies_on_the_other(servers: Servers) -> None:
    one, two = servers
    key = key_of(one, "create", "--user", "ann")
    until(two, key, "AccessDeniedException")
    one.opentrail("policies", "attach", "AWSCloudTrail_ReadOnlyAccess", "--user", "ann")
    until(two, key, "ok")
    two.opentrail("policies", "detach", "AWSCloudTrail_ReadOnlyAccess", "--user", "ann")
    until(one, key, "AccessDeniedException")


def test_both_servers_name_the_caller_behind_a_key(servers: Servers) -> None:
    one, two = servers
    key = {"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "foreign"}
    done = one.opentrail("directory", "add", key["AccessKeyId"], "--user", "mary")
    assert done.returncode == 0, done.stderr

    def is_named() -> bool:
        two.boto("s3", key["AccessKeyId"], key["SecretAccessKey"]).list_buckets()
        names = [
            record["userIdentity"].get("userName")
            for record in two.records("eventName=ListBuckets")
        ]
        return "mary" in names

    eventually(is_named, "the other server names mary", SECONDS)


def test_both_list_equal_keys_without_files(servers: Servers) -> None:
    one, two = servers
    key = key_of(one, "create", "--root")
    until(two, key, "ok")
    lists = [
        server.boto("cloudtrail", key["AccessKeyId"], key["SecretAccessKey"]).list_public_keys()[
            "PublicKeyList"
        ]
        for server in servers
    ]
    assert len(lists[0]) == 1
    assert lists[0] == lists[1]
    assert [list((server.data_dir / "keys").iterdir()) for server in servers] == [[], []]
    for server in servers:
        health = health_of(server)
        assert (health["keyProblems"], health["dataProblems"]) == ([], [])
        assert server.opentrail("doctor").stdout.count("signing key") == 0


@pytest.mark.campaign
def test_known_keys_work_while_postgresql_is_down(
    tmp_path: Path,
) -> None:
    with own_server() as postgres, two_servers(tmp_path, postgres.new_database()) as (one, two):
        key = key_of(one, "create", "--root")
        until(two, key, "ok")
        postgres.stop()
        for server in (one, two):
            eventually(partial(control_failure, server), "the control store is down")
            iam = server.boto("iam", key["AccessKeyId"], key["SecretAccessKey"])
            iam.create_user(UserName="during")
        postgres.start()

        def is_disabled() -> bool:
            return one.opentrail("keys", "disable", key["AccessKeyId"]).returncode == 0

        eventually(is_disabled, "the control store is reached again")
        until(two, key, "UnrecognizedClientException")
        assert two.stop() == 0
        message = "changes by other servers cannot be read"
        assert two.output.count(message) <= 1, two.output


def ask_console(
    server: Opentrail, method: str, path: str, cookie: str = "", body: dict[str, str] | None = None
) -> tuple[int, str, Any]:
    """Returns status, cookie and document of an answer to a console page."""
    headers = {"content-type": "application/json", "x-ot-csrf": "1", "cookie": cookie}
    connection = http.client.HTTPConnection(
        urlsplit(server.console).netloc, timeout=TIMEOUT_SECONDS
    )
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, f"/api/v1/{path}", content, headers)
        answer = connection.getresponse()
        text = answer.read()
        return (
            answer.status,
            answer.headers.get("set-cookie", "").partition(";")[0],
            json.loads(text) if text else None,
        )
    finally:
        connection.close()


def test_a_user_is_signed_in_on_both_servers(
    servers: Servers,
) -> None:
    one, two = servers
    added = json.loads(one.opentrail("users", "create", "eve", "--role", "viewer", "--json").stdout)
    own = "correct horse battery"
    login = {"name": "eve", "password": added["password"], "newPassword": own}
    status, cookie, answer = ask_console(two, "POST", "login", body=login)
    assert status == 204, answer

    def signed_in(server: Opentrail, secret: str) -> bool:
        status, _, session = ask_console(server, "GET", "session", secret)
        assert status in (200, 401), session
        return status == 200 and session["user"] == "eve"

    assert signed_in(one, cookie)
    assert signed_in(two, cookie)
    assert ask_console(one, "DELETE", "session", cookie)[0] == 204
    assert not signed_in(one, cookie)
    eventually(lambda: not signed_in(two, cookie), "the session ends on the other", SECONDS)
    _, cookie, _ = ask_console(one, "POST", "login", body={"name": "eve", "password": own})
    assert signed_in(two, cookie)
    one.opentrail("users", "delete", "eve")
    eventually(lambda: not signed_in(two, cookie), "the user is deleted", SECONDS)


def signed_calls(server: Opentrail, key: dict[str, Any], count: int) -> list[requests.Request]:
    """Returns calls that stop a trail, with different signatures."""
    made = []
    for number in range(count):
        call = AWSRequest(
            "POST",
            server.url,
            {"X-Amz-Target": f"{TARGET}StopLogging", "X-Amz-Number": str(number)},
            b'{"Name":"replayed"}',
        )
        credentials = Credentials(key["AccessKeyId"], key["SecretAccessKey"])
        SigV4Auth(credentials, "cloudtrail", "us-east-1").add_auth(call)
        headers = {**dict(call.headers), "Host": urlsplit(server.url).netloc}
        made.append(requests.Request("POST", headers=headers, data=call.body))
    return made


def statuses(server: Opentrail, calls: list[requests.Request]) -> Counter[int]:
    """Sends unchanged signed calls to a server, and counts the statuses."""
    with requests.Session() as session:
        answers = []
        for call in calls:
            call.url = server.url
            answers.append(session.send(call.prepare(), timeout=TIMEOUT_SECONDS).status_code)
    return Counter(answers)


def test_no_server_accepts_a_call_twice(tmp_path: Path) -> None:
    url = shared_server().new_database()
    with two_servers(tmp_path, url) as (one, two):
        key = key_of(one, "create", "--root")
        until(two, key, "ok")
        client = one.boto("cloudtrail", key["AccessKeyId"], key["SecretAccessKey"])
        client.create_trail(Name="replayed", S3BucketName="logs")
        calls = signed_calls(one, key, 50)
        assert statuses(one, calls) == {200: 50}
        assert 200 not in statuses(two, calls)
        assert one.stop() == 0
        one.start(**environment_for(url))
        assert 200 not in statuses(one, calls)
        assert statuses(two, signed_calls(one, key, 1)) == {200: 1}
