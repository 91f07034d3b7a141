"""Public keys, as printed by aws-cli and as returned by the API."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from opentrail.core.errors import UsageError
from opentrail.validation.public_keys import PublicKeys, read_keys
from tests.fakes import utc
from tests.validation.delivered import six_hours

START, END = utc("2020-01-01T09:00:00"), utc("2020-01-01T15:00:00")


def printed(**changes: Any) -> dict[str, Any]:
    key = {
        "Value": base64.b64encode(b"der").decode(),
        "ValidityStartTime": 1577869200.0,
        "ValidityEndTime": "2030-01-01T10:00:00+01:00",
        "Fingerprint": "31e8b5433410dfb61a9dc45cc65b22ff",
    }
    return {"PublicKeyList": [{**key, **changes}]}


def written(folder: Path, document: object) -> Path:
    file = folder / "keys.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return file


def test_both_aws_clis_keys_are_read(tmp_path: Path) -> None:
    (key,) = read_keys(written(tmp_path, printed()))
    assert key.der == b"der"
    assert key.valid_from == START
    assert key.valid_until == utc("2030-01-01T09:00:00")


def test_keys_written_are_keys_read(tmp_path: Path) -> None:
    keys = six_hours().public_keys()
    file = written(tmp_path, PublicKeys(keys).as_json())
    assert read_keys(file) == keys


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ("{", "is not JSON"),
        ([], "has no PublicKeyList"),
        ({"PublicKeyList": []}, "has no PublicKeyList"),
        ({"PublicKeyList": ["x"]}, "a key is not a JSON object"),
        (printed(Value="?"), "Value of key 31e8"),
        (printed(Fingerprint=None), "has no Fingerprint"),
        (printed(ValidityStartTime="soon"), "valid from or until 'soon'"),
        (printed(ValidityEndTime=1e300), "valid from or until"),
    ],
)
def test_invalid_keys_are_an_error(tmp_path: Path, document: object, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        read_keys(written(tmp_path, document))


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        read_keys(tmp_path / "none")


def test_keys_are_requested_once() -> None:
    asked: list[tuple[str, datetime, datetime]] = []

    def ask(region: str, start: datetime, end: datetime) -> list[dict[str, Any]]:
        asked.append((region, start, end))
        document: list[dict[str, Any]] = printed(ValidityEndTime=END)["PublicKeyList"]
        return document

    keys = PublicKeys(ask=ask)
    for _ in range(2):
        keys.load("us-east-1", START, END)
    keys.load("us-east-1", utc("2020-01-01T10:00:00"), END)
    assert len(asked) == 1
    assert asked[0][1] <= START
    assert asked[0][2] >= END
    keys.load("us-east-1", utc("2019-01-01T10:00:00"), END)
    assert len(asked) == 2
    fingerprint = printed()["PublicKeyList"][0]["Fingerprint"]
    assert keys.find("us-east-1", fingerprint)
    assert not keys.find("eu-west-1", fingerprint)
    assert not keys.find("us-east-1", "other")


def test_a_key_is_valid_from_its_creation() -> None:
    (key,) = six_hours().public_keys()
    assert key.is_valid_at(START)
    assert not key.is_valid_at(utc("2019-12-31T00:00:00"))
    assert not key.is_valid_at(utc("2040-01-01T00:00:00"))


def test_key_may_be_valid_until_the_calendars_end() -> None:
    (key,) = six_hours().public_keys()
    first, last = utc("0001-01-01T00:00:00"), utc("9999-12-31T23:59:59")
    assert replace(key, valid_from=first, valid_until=last).is_valid_at(START)
