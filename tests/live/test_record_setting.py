"""`--record`: excluded calls are forwarded and counted; no other trace remains."""

from __future__ import annotations

import gzip
import json
import socket
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.adapters.data_directory.unrecorded_counts import count_files
from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from tests.capture.proxy.wires import Wire, get, ok, put, scope, scripted
from tests.certificates import issue, write
from tests.live.processes import (
    Opentrail,
    eventually,
    files_in,
    moto_server,
    opentrail_server,
    run_opentrail,
    stalled_disk,
)

pytestmark = pytest.mark.live

MANAGEMENT = {
    "Name": "management events",
    "FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}],
}
WRITES = {
    "Name": "data events that write",
    "FieldSelectors": [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "readOnly", "Equals": ["false"]},
    ],
}
OTHER_BUCKETS = {
    "Name": "buckets other than the backups",
    "FieldSelectors": [
        {"Field": "eventCategory", "Equals": ["Data"]},
        {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        {"Field": "resources.ARN", "NotStartsWith": ["arn:aws:s3:::backups/"]},
    ],
}
SELECTORS = [MANAGEMENT, WRITES, OTHER_BUCKETS]


def selectors(folder: Path, *chosen: dict[str, Any]) -> tuple[str, str]:
    """Returns the flag for a file with selectors."""
    file = folder / "selectors.json"
    file.write_text(json.dumps(chosen or SELECTORS))
    return "--record", str(file)


def left_out(server: Opentrail) -> dict[str, int]:
    """Returns the counts in `opentrail status`."""
    status = json.loads(server.opentrail("status", "--json").stdout)
    return {row["eventName"]: row["calls"] for row in status["leftOut"]}


@pytest.mark.parametrize("mode", [(), ("--recorders", "2"), ("--on-record-failure", "allow")])
def test_reads_of_one_bucket_are_counted(tmp_path: Path, mode: tuple[str, ...]) -> None:
    flags = (*selectors(tmp_path), *mode)
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream, *flags) as server,
    ):
        s3 = server.boto("s3")
        for bucket in ("backups", "photos"):
            s3.create_bucket(Bucket=bucket)
            s3.put_object(Bucket=bucket, Key="a", Body=b"content")
        for _ in range(3):
            assert s3.get_object(Bucket="backups", Key="a")["Body"].read() == b"content"
        s3.head_object(Bucket="backups", Key="a")
        assert s3.list_objects_v2(Bucket="backups")["KeyCount"] == 1
        s3.get_object(Bucket="photos", Key="a")
        server.boto("iam").list_users()
        eventually(lambda: server.count("EventName=ListUsers"), "the last call is found")
        names = sorted(record["eventName"] for record in server.records())
        assert names == [*["CreateBucket"] * 2, "GetObject", "ListUsers", *["PutObject"] * 2]
        assert left_out(server) == {"GetObject": 3, "HeadObject": 1, "ListObjects": 1}
        said = server.opentrail("status").stdout
        assert "Calls that --record left out since the start:" in said
        assert "GetObject of s3.amazonaws.com" in said
        metrics = Wire.to(server.console).send("GET /metrics HTTP/1.0\r\nHost: h\r\n\r\n").rest()
        counter = b'opentrail_left_out_calls_total{event_name="GetObject"'
        assert counter in metrics


def test_left_out_call_leaves_no_bytes(tmp_path: Path) -> None:
    """A body of several megabytes would be in a temporary file while its call is recorded."""
    secret = b"body-of-a-left-out-call-" * 100_000
    flags = (*selectors(tmp_path, MANAGEMENT), "--upstream")
    bodies = []

    def storing(wire: Wire) -> None:
        while True:
            head, body = wire.request()
            bodies.append(body)
            wire.send(ok(secret if head.startswith(b"GET") else b""))

    with (
        scripted(storing) as upstream,
        opentrail_server(tmp_path / "data", *flags, upstream.url) as server,
    ):
        wire = Wire.to(server.url)
        wire.send(put(secret, "/backups/key-of-a-left-out-call"))
        assert wire.answer()[0] == 200
        assert wire.send(get("/backups/key-of-a-left-out-call")).answer()[2] == secret
        assert bodies == [secret, b""]
        assert left_out(server) == {"PutObject": 1, "GetObject": 1}
        assert server.records() == []
        assert server.stop() == 0
        assert "left-out-call" not in server.output
    for file, content in files_in(tmp_path / "data").items():
        assert b"left-out-call" not in content, file


def test_answer_leaves_while_the_journal_is_stalled(tmp_path: Path) -> None:
    def answering(wire: Wire) -> None:
        while True:
            wire.request()
            wire.send(ok(b"x" * 100_000))

    with (
        scripted(answering) as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream.url, *selectors(tmp_path)
        ) as server,
        stalled_disk(server),
    ):
        wire = Wire.to(server.url)
        assert len(wire.send(get("/backups/a")).answer()[2]) == 100_000
        assert left_out(server) == {"GetObject": 1}


def test_upload_that_waits_for_continue_is_left_out(tmp_path: Path) -> None:
    def storing(wire: Wire) -> None:
        head = wire.until(b"\r\n\r\n")
        wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert wire.body_after(head) == b"12345"
        wire.send(ok(b""))

    with (
        scripted(storing) as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream.url, *selectors(tmp_path, MANAGEMENT)
        ) as server,
    ):
        wire = Wire.to(server.url)
        request = put(b"12345", "/backups/a", "Expect: 100-continue")
        wire.send(request[:-5])
        assert wire.answer()[0] == 100
        assert wire.send(b"12345").answer()[0] == 200
        wire = Wire.to(server.url).send(get("/backups/a").replace("GET", "HEAD"))
        assert wire.answer(head_request=True)[0] == 502
        assert upstream.problems
        assert left_out(server) == {"PutObject": 1, "HeadObject": 1}


def test_tls_uploads_are_left_out_and_re_signed(tmp_path: Path) -> None:
    """SDKs send uploads over TLS in separately signed chunks, which are not recorded."""
    pem, key = tmp_path / "certificate.pem", tmp_path / "key.pem"
    write(issue("opentrail", "127.0.0.1"), pem, key)
    config = tmp_path / "opentrail.toml"
    body = b"0123456789" * 300_000
    with moto_server() as upstream:
        config.write_text(
            f'tls_certificate = "{pem}"\ntls_key = "{key}"\n'
            f'[upstream.default]\nurl = "{upstream}"\nresign = true\n'
            f'access_key_id = "{ADMIN_KEY_ID}"\nsecret_access_key = "{ADMIN_SECRET}"\n'
            '[[record]]\nFieldSelectors = [{Field = "eventCategory", Equals = ["Management"]}]\n'
        )
        with opentrail_server(tmp_path / "data", "--config", str(config)) as server:
            s3 = boto3.client(
                "s3",
                endpoint_url=server.url,
                verify=str(pem),
                region_name="us-east-1",
                aws_access_key_id=ADMIN_KEY_ID,
                aws_secret_access_key=ADMIN_SECRET,
            )
            s3.create_bucket(Bucket="backups")
            s3.put_object(Bucket="backups", Key="a", Body=body)
            assert s3.get_object(Bucket="backups", Key="a")["Body"].read() == body
            status = json.loads(server.opentrail("status", "--json").stdout)
            assert {row["eventName"] for row in status["leftOut"]} == {"PutObject", "GetObject"}
            assert [record["eventName"] for record in server.records()] == ["CreateBucket"]


def test_a_restored_backup_has_no_counts(tmp_path: Path) -> None:
    """The original server records them; the restored one would count them again."""

    def answering(wire: Wire) -> None:
        while True:
            wire.request()
            wire.send(ok())

    with (
        scripted(answering) as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream.url, *selectors(tmp_path)
        ) as server,
    ):
        assert Wire.to(server.url).send(get("/backups/a")).answer()[0] == 200
        archive = str(tmp_path / "backup.tar")
        assert server.opentrail("backup", archive).returncode == 0
        assert len(count_files(tmp_path / "data" / "left-out")) == 1
    restored = tmp_path / "restored"
    assert run_opentrail("restore", archive, "--data-dir", str(restored)).returncode == 0
    assert count_files(restored / "left-out") == []


def test_unreachable_upstream_gets_an_answer_and_a_count(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        upstream = f"http://127.0.0.1:{closed.getsockname()[1]}"
        flags = ("--upstream", upstream, *selectors(tmp_path))
        with opentrail_server(tmp_path / "data", *flags) as server:
            wire = Wire.to(server.url)
            assert wire.send(get("/backups/a")).answer()[0] == 502
            assert wire.send(get("/backups/a")).answer()[0] == 502
            assert left_out(server) == {"GetObject": 2}
            assert server.records() == []


def test_refused_signature_is_recorded(tmp_path: Path) -> None:
    with (
        scripted(lambda _wire: None) as upstream,
        opentrail_server(
            tmp_path / "data",
            *("--upstream", upstream.url, "--auth", "enforced", "--unknown-keys", "refuse"),
            *selectors(tmp_path),
        ) as server,
    ):
        assert Wire.to(server.url).send(get("/backups/a")).answer()[0] == 403
        eventually(server.records, "the call is found")
        assert [record["eventName"] for record in server.records()] == ["GetObject"]
        assert left_out(server) == {}


def test_own_api_calls_and_unknown_operations_are_recorded(tmp_path: Path) -> None:
    """The selectors exclude everything; the CloudTrail API and unknown operations are recorded."""
    nothing = {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Management"]},
            {"Field": "eventName", "Equals": ["CreateUser"]},
        ]
    }
    with (
        moto_server() as upstream,
        opentrail_server(
            tmp_path / "data",
            *("--upstream", upstream, "--leave-out-management-events", "on"),
            *selectors(tmp_path, nothing),
        ) as server,
    ):
        server.boto("sts").get_caller_identity()
        server.boto("cloudtrail").describe_trails()
        unknown = f"GET /?Action=Odd&Version=1 HTTP/1.1\r\nAuthorization: {scope('iam')}\r\n"
        Wire.to(server.url).send(f"{unknown}Host: h\r\n\r\n").answer()
        eventually(lambda: len(server.records()) == 2, "two calls are found")
        names = {record["eventSource"] for record in server.records()}
        assert names == {"cloudtrail.amazonaws.com", "iam.amazonaws.com"}
        assert left_out(server) == {"GetCallerIdentity": 1}


@pytest.mark.parametrize("mode", ["refuse", "allow", "signed again"])
def test_a_late_body_names_the_operation(tmp_path: Path, mode: str) -> None:
    def answering(wire: Wire) -> None:
        while True:
            head = wire.until(b"\r\n\r\n")
            if b"100-continue" in head:
                wire.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            wire.body_after(head)
            wire.send(ok(b"<GetCallerIdentityResponse/>"))

    with scripted(answering) as upstream:
        table = tmp_path / "opentrail.toml"
        table.write_text(
            f'[upstream.default]\nurl = "{upstream.url}"\nresign = true\n'
            f'access_key_id = "{ADMIN_KEY_ID}"\nsecret_access_key = "{ADMIN_SECRET}"\n'
        )
        flags = ("--upstream", upstream.url, "--on-record-failure", mode)
        with opentrail_server(
            tmp_path / "data",
            *(("--config", str(table)) if mode == "signed again" else flags),
            *("--leave-out-management-events", "on", *selectors(tmp_path, WRITES)),
        ) as server:
            wire = Wire.to(server.url)
            body = b"Action=GetCallerIdentity&Version=2011-06-15"
            head = (
                f"POST / HTTP/1.1\r\nHost: h\r\nAuthorization: {scope('sts')}\r\n"
                "Content-Type: application/x-www-form-urlencoded\r\n"
                f"Content-Length: {len(body)}\r\n"
            ).encode()
            assert wire.send(head + b"\r\n" + body).answer()[0] == 200
            wire.send(head + b"Expect: 100-continue\r\n\r\n")
            assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
            assert wire.send(body).answer()[0] == 200
            assert left_out(server) == {"GetCallerIdentity": 2}
            assert server.stop() == 0
        with opentrail_server(tmp_path / "data", "--upstream", upstream.url) as server:
            assert server.records() == []


def test_an_excluded_callers_calls_are_omitted_once_known(tmp_path: Path) -> None:
    others = {
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "userIdentity.arn", "NotEquals": ["arn:aws:iam::123456789012:user/agent"]},
        ]
    }
    with (
        moto_server() as upstream,
        opentrail_server(
            tmp_path / "data", "--upstream", upstream, *selectors(tmp_path, MANAGEMENT, others)
        ) as server,
    ):
        iam, s3 = server.boto("iam"), server.boto("s3")
        iam.create_user(UserName="agent")
        key = iam.create_access_key(UserName="agent")["AccessKey"]
        s3.create_bucket(Bucket="backups")
        s3.put_object(Bucket="backups", Key="a", Body=b"")
        agent = server.boto("s3", key["AccessKeyId"], key["SecretAccessKey"])
        agent.get_object(Bucket="backups", Key="a")
        server.boto("s3", "AKIAUNKNOWNUNKNOWNUN").get_object(Bucket="backups", Key="a")
        eventually(lambda: server.count("EventName=GetObject"), "the last call is found")
        assert left_out(server) == {"GetObject": 1}


def test_trail_gets_the_hourly_count_without_the_calls(tmp_path: Path) -> None:
    """The name of a file is its hour: an earlier one is over."""
    flags = selectors(tmp_path)
    with (
        moto_server() as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream, *flags) as server,
    ):
        s3, trails = server.boto("s3"), server.boto("cloudtrail")
        s3.create_bucket(Bucket="logs")
        trails.create_trail(Name="all", S3BucketName="logs")
        resources = [{"Type": "AWS::S3::Object", "Values": ["arn:aws:s3"]}]
        trails.put_event_selectors(TrailName="all", EventSelectors=[{"DataResources": resources}])
        trails.start_logging(Name="all")
        for _ in range(4):
            with pytest.raises(s3.exceptions.ClientError):
                s3.get_object(Bucket="backups", Key="a")
        server.kill()
        (file,) = count_files(tmp_path / "data" / "left-out")
        past = file.with_name(f"20200101T07-{file.name.partition('-')[2]}")
        content = file.read_bytes()
        file.unlink()
        for _ in range(2):  # one event, also if the first start ended before it deleted the file
            past.write_bytes(content)
            server.start()
            eventually(lambda: not past.exists(), "the hour is recorded")
            eventually(lambda: server.count("EventName=EventsLeftOut"), "its event is found")
            server.stop()
        server.start()
        (record,) = server.records("EventName=EventsLeftOut")
        assert record["eventSource"] == "recorder.opentrail.internal"
        assert record["serviceEventDetails"] == {
            "hour": "2020-01-01T07:00:00Z",
            "leftOutCalls": 4,
            "eventSource": "s3.amazonaws.com",
            "eventName": "GetObject",
            "resourceType": "AWS::S3::Object",
        }
        assert server.opentrail("trail", "flush", "all").returncode == 0
        names = [event["eventName"] for event in delivered(server.boto("s3"))]
        assert "EventsLeftOut" in names
        assert "GetObject" not in names


def delivered(s3: Any) -> list[dict[str, Any]]:
    """Returns the events in the log files of the bucket `logs`."""
    keys = [item["Key"] for item in s3.list_objects_v2(Bucket="logs")["Contents"]]
    bodies = [
        s3.get_object(Bucket="logs", Key=key)["Body"].read()
        for key in keys
        if "/CloudTrail/" in key and key.endswith(".gz")
    ]
    return [event for body in bodies for event in json.loads(gzip.decompress(body))["Records"]]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            'record = "some"',
            "record in {file} must be all, or a JSON file of advanced event selectors, not 'some': "
            "No such file",
        ),
        (
            "[[record]]\nFieldSelectors = [{Field = 'eventCategory', Equal = ['Data']}]",
            "record in {file} must be all, or a list of advanced event selectors: Object contains "
            "unknown field `Equal` - at `$[0].FieldSelectors[0]`",
        ),
        (
            "[[record]]\nName = 'odd'\nFieldSelectors = [{Field = 'eventCategory', Equals = "
            "['Data']}, {Field = 'errorCode', Equals = ['x']}]",
            "record in {file}: selector 1 (odd): Field errorCode is not supported for Data events "
            "of a recording. Supported fields are eventCategory, readOnly, eventSource, eventName, "
            "resources.type, resources.ARN, userIdentity.arn.",
        ),
        (
            "[[record]]\nFieldSelectors = [{Field = 'eventCategory', Equals = ['Data']}, {Field = "
            "'resources.type', Equals = ['AWS::DynamoDB::Table']}, {Field = 'resources.ARN', "
            "Equals = ['x']}]",
            "record in {file}: selector 1: resources.ARN needs a resources.type whose ARN the head "
            "of a request names: AWS::S3::Object",
        ),
        (
            "[[record]]\nFieldSelectors = [{Field = 'eventCategory', Equals = ['Data']}]",
            "record leaves out management events: add a selector whose only field is "
            '{{ Field = "eventCategory", Equals = ["Management"] }}, or set '
            "--leave-out-management-events on",
        ),
    ],
)
def test_invalid_selectors_end_the_start(tmp_path: Path, config: str, said: str) -> None:
    file = tmp_path / "opentrail.toml"
    file.write_text(config)
    arguments = ("serve", "--upstream", "http://127.0.0.1:1", "--config", str(file))
    done = run_opentrail(*arguments, "--data-dir", str(tmp_path / "data"))
    assert done.returncode == 2
    assert said.format(file=file) in done.stderr
