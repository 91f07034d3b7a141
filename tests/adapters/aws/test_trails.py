"""The CloudTrail API as the verifier uses it, with a stub over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from opentrail.adapters.aws.downloads import TrailReader
from opentrail.core.errors import OpentrailError
from tests.fakes import utc
from tests.stub_console import Asked, StubConsole, stub_console

ARN = "arn:aws:cloudtrail:us-east-1:123456789012:trail/my-trail"
START, END = utc("2020-01-01T09:00:00"), utc("2020-01-01T15:00:00")


@pytest.fixture
def api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubConsole]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with stub_console(tmp_path) as stub:
        yield stub


@pytest.mark.slow
def test_a_trail_is_found_by_its_arn(api: StubConsole) -> None:
    other = {"TrailARN": f"{ARN}-other", "S3BucketName": "other"}
    api.answers({"trailList": [other, {"TrailARN": ARN, "S3BucketName": "logs"}]})
    reader = TrailReader(api.url)
    trail = reader.trail(ARN, "us-east-1")
    assert trail is not None
    assert trail["S3BucketName"] == "logs"
    assert reader.trail(f"{ARN}x", "us-east-1") is None


def test_keys_of_all_pages_are_returned(api: StubConsole) -> None:
    def answer(asked: Asked) -> tuple[int, Any]:
        wanted = json.loads(asked.body)
        assert (wanted["StartTime"], wanted["EndTime"]) == (START.timestamp(), END.timestamp())
        if "NextToken" in wanted:
            return 200, {"PublicKeyList": [{"Fingerprint": "b", "Value": "ZGVy"}]}
        return 200, {"PublicKeyList": [{"Fingerprint": "a"}], "NextToken": "more"}

    api.react = answer
    keys = TrailReader(api.url).public_keys("eu-west-1", START, END)
    assert [key["Fingerprint"] for key in keys] == ["a", "b"]
    assert keys[1]["Value"] == b"der"


def test_a_refusal_is_reported(api: StubConsole) -> None:
    api.answers({"__type": "AccessDeniedException", "message": "no"}, 400)
    with pytest.raises(OpentrailError, match=r"CloudTrail API cannot be asked.*AccessDenied"):
        TrailReader(api.url).trail(ARN, "us-east-1")


@pytest.mark.slow
def test_a_silent_server_is_reported(api: StubConsole) -> None:
    with pytest.raises(OpentrailError, match="cannot be asked"):
        TrailReader("http://127.0.0.1:9").public_keys("us-east-1", START, END)
