"""`opentrail validate` on copies, on a real S3 endpoint, and with a server that knows the trail."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from opentrail.cli import main
from opentrail.validation.buckets import KEYS
from opentrail.validation.public_keys import PublicKeys
from tests.live.processes import moto_server
from tests.stub_console import Asked, StubConsole, stub_console
from tests.trails.world import BUCKET
from tests.validation.delivered import FAR, Trail, six_hours

Capture = pytest.CaptureFixture[str]
ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/my-trail"


@pytest.fixture(autouse=True)
def nobody_around(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server, and no service to ask."""
    monkeypatch.setenv("OPENTRAIL_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "opentrail")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "opentrail")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(PublicKeys(six_hours().public_keys()).as_json()))
    return file


def run(*arguments: object) -> int:
    return main(["validate", *map(str, arguments)])


@pytest.mark.slow
def test_a_copy_is_validated_without_a_server(tmp_path: Path, keys: Path, capsys: Capture) -> None:
    trail = six_hours()
    copy, checkpoint = tmp_path / "copy", tmp_path / "checkpoint.json"
    trail.write(copy)
    lines = [
        json.dumps(
            {"bucket": BUCKET, "key": key, "signature": trail.bucket[key].metadata["signature"]}
        )
        for key in (trail.digests()[-1], trail.digests(FAR)[-1])
    ]
    signatures = tmp_path / "signatures"
    signatures.write_text("\n".join(lines))
    arguments = (copy, "--keys", keys, "--signatures", signatures, "--checkpoint", checkpoint)
    assert run(*arguments) == 5
    assert "not known whether there were digest files after" in capsys.readouterr().out
    assert run(*arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert captured.out.splitlines()[-1] == "good"
    assert "6/6 digest files valid, 18/18 log files valid" in captured.out
    key = trail.logs()[3]
    (copy / key).write_bytes(b"")
    before = checkpoint.read_bytes()
    assert run(*arguments) == 1
    assert f"NOT GOOD\tlog file\t{copy / key}\tempty" in capsys.readouterr().out
    assert checkpoint.read_bytes() == before


def test_scripts_get_one_document(tmp_path: Path, keys: Path, capsys: Capture) -> None:
    trail = six_hours()
    del trail.bucket[trail.logs()[3]]
    assert run(trail.write(tmp_path / "copy"), "--keys", keys, "--json") == 1
    answer = json.loads(capsys.readouterr().out)
    assert answer["verdict"] == "not good"
    assert [f["kind"] for f in answer["findings"] if f["status"] == "bad"] == ["log file"]
    assert {chain["region"] for chain in answer["chains"]} == {"us-east-1", FAR}


def test_arguments_limit_the_validation(tmp_path: Path, keys: Path, capsys: Capture) -> None:
    copy = six_hours().write(tmp_path / "copy")
    ranges = ("--since", "2020-01-01T11:30:00Z", "--until", "2020-01-01 12:30:00+00:00")
    assert run(copy, "--keys", keys, "--region", FAR, *ranges, "--json") == 0
    (chain,) = json.loads(capsys.readouterr().out)["chains"]
    assert chain["region"] == FAR
    assert chain["digestFiles"] == {"valid": 2, "all": 2}
    assert run(copy, "--keys", keys, "--trail", "other") == 5
    assert run(copy, "--keys", keys, "--account", "999999999999") == 5
    assert "there are none to validate" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none"], "there is no folder none"),
        (["s3://"], "s3:// names no bucket"),
        (["arn:aws:s3:::x"], "arn:aws:s3:::x is not the ARN of a trail"),
        ([ARN, ARN], "one trail at a time"),
        ([".", "--since", "noon"], "--since must be a time like"),
        ([".", "--since", "2020-01-02", "--until", "2020-01-01"], "--since must be before --until"),
        ([".", "--keys", "none"], "none: No such file or directory"),
        ([".", "--signatures", "none"], "none: No such file or directory"),
        ([".", "--data-dir", "none"], "no server runs on data directory none"),
    ],
)
def test_invalid_options_are_usage_errors(
    arguments: list[str], message: str, capsys: Capture
) -> None:
    assert run(*arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_without_keys_a_copy_is_not_validated(tmp_path: Path, capsys: Capture) -> None:
    copy = six_hours().write(tmp_path / "copy")
    assert run(copy) == 5
    output = capsys.readouterr().err
    assert "the CloudTrail API cannot be asked" in output
    assert "--keys FILE" in output


# A bucket, and a server that knows the trail


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    with moto_server() as url:
        yield url


@pytest.fixture
def trail(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trail]:
    """Puts a trail's objects into a real S3 endpoint."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto)
    trail = six_hours()
    s3 = boto3.session.Session().client("s3")
    s3.create_bucket(Bucket=BUCKET)
    for key, stored in trail.bucket.items():
        s3.put_object(Bucket=BUCKET, Key=key, Body=stored.content, Metadata=stored.metadata)
    yield trail
    resource = boto3.session.Session().resource("s3").Bucket(BUCKET)
    resource.objects.delete()
    resource.delete()


#: The server's ranges of undelivered events.
UNDELIVERED: list[dict[str, Any]] = []


@pytest.fixture
def server(tmp_path: Path, trail: Trail) -> Iterator[StubConsole]:
    """Answers like an opentrail server with this trail."""

    def answer(asked: Asked) -> tuple[int, Any]:
        if asked.path.startswith("/api/v1/trails/digests"):
            return 200, {"trail": ARN, "chains": trail.known, "undelivered": UNDELIVERED}
        if "includeShadowTrails" in json.loads(asked.body):
            return 200, {"trailList": [{"TrailARN": ARN, "S3BucketName": BUCKET}]}
        listed = PublicKeys(trail.public_keys()).as_json()["PublicKeyList"]
        for key, public in zip(listed, trail.public_keys(), strict=True):
            key["ValidityStartTime"] = public.valid_from.timestamp()
            key["ValidityEndTime"] = public.valid_until.timestamp()
        return 200, {"PublicKeyList": listed}

    with stub_console(tmp_path / "data") as stub:
        described = json.loads((stub.data_dir / "server.json").read_text())
        described["endpoint"] = stub.url
        (stub.data_dir / "server.json").write_text(json.dumps(described))
        stub.react = answer
        yield stub


@pytest.mark.live
@pytest.mark.usefixtures("server")
def test_a_trail_is_validated_by_its_arn(trail: Trail, capsys: Capture) -> None:
    assert run(ARN) == 0, capsys.readouterr()
    assert capsys.readouterr().out.splitlines()[-1] == "good"
    boto3.session.Session().client("s3").delete_object(Bucket=BUCKET, Key=trail.digests()[-1])
    assert run(ARN) == 1
    assert f"s3://{BUCKET}/{trail.digests()[-1]}\tis missing" in capsys.readouterr().out


@pytest.mark.live
@pytest.mark.usefixtures("server")
def test_events_expired_before_delivery_are_a_gap(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {"first": 11, "last": 1_010, "found": "2020-01-01T12:00:00Z"}
    monkeypatch.setattr(f"{__name__}.UNDELIVERED", [found])
    assert run(ARN) == 1
    [gap] = [line for line in capsys.readouterr().out.splitlines() if "\tgap\t" in line]
    assert gap.startswith(f"NOT GOOD\tgap\t{ARN}\t1,000 events from position 11 to 1010 expired")
    run(ARN, "--since", "2020-01-01T12:00:01Z")
    assert "expired" not in capsys.readouterr().out


@pytest.mark.live
@pytest.mark.usefixtures("server")
def test_a_missing_bucket_fails_a_trail_with_digests(
    trail: Trail, capsys: Capture, moto: str
) -> None:
    bucket = boto3.session.Session().resource("s3").Bucket(BUCKET)
    bucket.objects.delete()
    bucket.delete()
    assert run(ARN) == 1
    output = capsys.readouterr().out
    assert trail.digests()[-1] in output
    assert "there is nothing to list" in output
    bucket.create()


@pytest.mark.live
@pytest.mark.usefixtures("server")
def test_trail_unknown_to_the_server_is_an_error(capsys: Capture) -> None:
    assert run(f"{ARN}-other") == 2
    assert "there is no trail" in capsys.readouterr().err


@pytest.mark.live
@pytest.mark.usefixtures("trail")
def test_a_bucket_is_validated_without_a_server(keys: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.json"
    arguments = (f"s3://{BUCKET}", "--keys", keys, "--checkpoint", checkpoint)
    assert run(*arguments) == 5
    # This trail no longer has a signer, which the bucket alone cannot explain.
    assert run(*arguments) == 5
    assert run(*arguments, "--until", "2020-01-01T14:30:00Z") == 0
    assert run("s3://no-such-bucket", "--keys", keys) == 5


@pytest.mark.live
@pytest.mark.usefixtures("server")
def test_a_copys_digests_are_validated_against_the_bucket(
    trail: Trail, tmp_path: Path, capsys: Capture
) -> None:
    copy = tmp_path / "copy"
    for key in trail.logs() + trail.logs(FAR):
        del trail.bucket[key]
    trail.write(copy)
    s3 = boto3.session.Session().client("s3")
    for key in trail.digests() + trail.digests(FAR):
        s3.delete_object(Bucket=BUCKET, Key=key)
    assert run(ARN, copy, f"s3://{BUCKET}") == 0, capsys.readouterr()
    assert run(ARN, copy) == 1


@pytest.mark.live
@pytest.mark.usefixtures("server")
def test_an_export_is_validated_without_a_server(tmp_path: Path, capsys: Capture) -> None:
    export, checkpoint = tmp_path / "export", tmp_path / "checkpoint.json"
    assert run(ARN, "--export", export, "--checkpoint", checkpoint) == 0, capsys.readouterr()
    with pytest.MonkeyPatch.context() as alone:
        alone.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
        alone.setenv("OPENTRAIL_DATA_DIR", str(tmp_path / "none"))
        assert run(export, "--keys", export / KEYS, "--checkpoint", checkpoint) == 0
    assert run(export, "--keys", export / KEYS, "--export", export) == 2
    assert "is not empty" in capsys.readouterr().err
