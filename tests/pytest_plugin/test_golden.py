"""Golden trails: their content, masks and comparison."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from opentrail.core.errors import UsageError
from opentrail.pytest_plugin.golden import GoldenFolder, golden_text
from tests.factories import a_data_record, a_record, an_iam_user

KEY_1, KEY_2 = "AKIARZPUZDIKCDWZNVG1", "AKIARZPUZDIKCDWZNVG2"


def golden(*records: dict[str, Any], mask: dict[str, str] | None = None) -> list[Any]:
    read: list[Any] = json.loads(golden_text(records, mask))
    return read


def masked(value: Any, member: str = "value", **mask: str) -> Any:
    (record,) = golden(a_record(requestParameters={member: value}), mask=mask)
    return record["requestParameters"][member]


def test_a_golden_trail_has_callers_requests_and_responses() -> None:
    (found,) = golden(a_record(errorCode="AccessDenied", errorMessage="no"))
    assert list(found) == [
        *("userIdentity", "eventSource", "eventName", "awsRegion", "errorCode", "errorMessage"),
        *("requestParameters", "responseElements", "recipientAccountId"),
    ]
    assert found["userIdentity"] == {
        "type": "IAMUser",
        "arn": "arn:aws:iam::123456789012:user/John",
        "userName": "John",
    }
    assert found["responseElements"]["user"] == {
        "path": "/",
        "userName": "Mary",
        "userId": "<id-1>",
        "arn": "arn:aws:iam::123456789012:user/Mary",
        "createDate": "<time>",
    }


def test_volatile_values_are_ignored() -> None:
    one = a_record()
    other = a_record(
        eventTime="2031-05-05T05:05:05Z",
        eventID="c2f8a3f0-0000-4000-8000-000000000000",
        requestID="another",
        userAgent="Boto3/9",
        sourceIPAddress="198.51.100.7",
        userIdentity=an_iam_user("John", key=KEY_1),
    )
    assert golden_text([one]) == golden_text([other])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("7f3c1a52-8b1d-4e6a-9c55-2f0e6a1b3c4d", "<uuid-1>"),
        ("2026-11-20T08:52:13Z", "<time>"),
        ("Nov 20, 2026 8:52:13 AM", "<time>"),
        ("http://127.0.0.1:41233/123456789012/jobs", "http://<host>/123456789012/jobs"),
        (KEY_1, "<key-1>"),
        ("instance/i-5c8a656fc19054650", "instance/<id-1>"),
        ("us-east-1:1:secret:db/pw-RPCVlM", "us-east-1:1:secret:db/pw-<suffix>"),
        ("backup-20260101", "backup-20260101"),
        ("my-bucket", "my-bucket"),
        (5, 5),
        (True, True),
        (None, None),
    ],
)
def test_volatile_strings_are_masked(value: Any, expected: Any) -> None:
    assert masked(value) == expected


@pytest.mark.parametrize(
    ("member", "value", "expected"),
    [
        ("clientToken", "x", "<token>"),
        ("versionId", "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY", "<id>"),
        ("uploadId", "x", "<id>"),
        ("creationDate", 1763628733.2, "<time>"),
        ("createdAt", 1763628733, "<time>"),
        ("format", 17, 17),
        ("visibilityTimeout", 30, 30),
    ],
)
def test_volatile_members_are_masked(member: str, value: Any, expected: Any) -> None:
    assert masked(value, member) == expected


def test_equal_values_have_equal_masks() -> None:
    found = golden(
        a_record(requestParameters={"keys": [KEY_1, KEY_2]}, responseElements=None),
        a_record(requestParameters={"of": {KEY_2: KEY_1}}, responseElements=None),
    )
    assert found[0]["requestParameters"] == {"keys": ["<key-1>", "<key-2>"]}
    assert found[1]["requestParameters"] == {"of": {"<key-2>": "<key-1>"}}


def test_members_about_the_sending_are_left_out() -> None:
    record = a_data_record()
    record["requestParameters"]["x-amz-checksum-crc32"] = "jNwWgw=="
    (found,) = golden(record)
    assert found["requestParameters"] == {"bucketName": "my-bucket", "key": "in/a.csv"}


def test_own_masks_apply_first() -> None:
    assert masked("order-5 of 7", **{r"order-\d": "<order>"}) == "<order> of 7"
    with pytest.raises(UsageError, match="mask has an invalid regular expression"):
        golden_text([], {"(": ""})


# Files


def folder(tmp_path: Path, is_update: bool = False) -> GoldenFolder:
    return GoldenFolder(tmp_path / "test_reports.py", "test_upload[a b/c]", is_update)


def test_a_golden_trail_is_next_to_the_test(tmp_path: Path) -> None:
    golden = folder(tmp_path)
    assert golden.path(None) == tmp_path / "golden" / "test_reports" / "test_upload-a-b-c.json"
    assert golden.path("upload") == tmp_path / "golden" / "upload.json"
    assert golden.path("reports/upload") == tmp_path / "golden" / "reports" / "upload.json"


def test_a_tests_second_golden_trail_has_a_name(tmp_path: Path) -> None:
    golden = folder(tmp_path, is_update=True)
    golden.difference(None, [], {})
    golden.difference("other", [], {})
    with pytest.raises(UsageError, match="name the others"):
        golden.difference(None, [], {})


@pytest.mark.parametrize("name", ["../x", "/x", "", "a//b", "a/../b", "a b"])
def test_a_name_is_a_file_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="a golden trail is named like"):
        folder(tmp_path).path(name)


def test_a_missing_file_is_written_by_an_update(tmp_path: Path) -> None:
    records = [a_record()]
    missing = folder(tmp_path).difference("a", records, {})
    assert missing == "there is no golden trail golden/a.json: 'pytest --update-golden' writes it"
    assert folder(tmp_path, is_update=True).difference("a", records, {}) == ""
    assert folder(tmp_path).difference("a", records, {}) == ""


def test_an_update_without_calls_writes_no_file(tmp_path: Path) -> None:
    refused = folder(tmp_path, is_update=True).difference("a", [], {})
    assert refused == "no call was recorded for the golden trail golden/a.json"
    assert not (tmp_path / "golden").exists()


def test_a_difference_is_a_unified_diff(tmp_path: Path) -> None:
    folder(tmp_path, is_update=True).difference("a", [a_record()], {})
    found = folder(tmp_path).difference("a", [a_record(awsRegion="eu-west-1")], {})
    assert "--- golden/a.json\n+++ recorded\n" in found
    assert '-    "awsRegion": "us-east-1",\n+    "awsRegion": "eu-west-1",' in found
    assert "'pytest --update-golden' writes golden/a.json again" in found
