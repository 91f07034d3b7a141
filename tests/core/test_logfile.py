"""Names and bytes of log files, byte for byte as in cloudtrail-format §5."""

import json
import re
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.logfile import (
    LOG_KINDS,
    DeliveryPlace,
    LogFileLocation,
    digest_key,
    log_bytes,
    log_key,
    sha256_hex,
    unique_string,
)
from tests.factories import record_bytes

PLACE = LogFileLocation("my-bucket", "", "111122223333", "us-east-2")
MOMENT = datetime(2015, 8, 17, 14, 45, 59, tzinfo=UTC)
END = datetime(2015, 8, 17, 15, 1, 31, tzinfo=UTC)


def test_a_log_file_has_awss_key() -> None:
    assert log_key(PLACE, MOMENT, "9nYN7gp2eWAJHIfT") == (
        "AWSLogs/111122223333/CloudTrail/us-east-2/2015/08/17/"
        "111122223333_CloudTrail_us-east-2_20150817T1445Z_9nYN7gp2eWAJHIfT.json.gz"
    )


@pytest.mark.parametrize(
    ("category", "kind"),
    [
        ("Management", "CloudTrail"),
        ("Data", "CloudTrail"),
        ("NetworkActivity", "CloudTrail-NetworkActivity"),
        ("Insight", "CloudTrail-Insight"),
    ],
)
def test_each_categorys_events_have_folder_and_name(category: str, kind: str) -> None:
    assert log_key(PLACE, MOMENT, "9nYN7gp2eWAJHIfT", LOG_KINDS[category]) == (
        f"AWSLogs/111122223333/{kind}/us-east-2/2015/08/17/"
        f"111122223333_{kind}_us-east-2_20150817T1445Z_9nYN7gp2eWAJHIfT.json.gz"
    )


def test_organization_trails_files_are_in_its_folder() -> None:
    place = DeliveryPlace("o-a1b2c3d4e5", "111122223333", "us-east-2")
    location = place.location("my-bucket", "audit")
    assert log_key(location, MOMENT, "9nYN7gp2eWAJHIfT") == (
        "audit/AWSLogs/o-a1b2c3d4e5/111122223333/CloudTrail/us-east-2/2015/08/17/"
        "111122223333_CloudTrail_us-east-2_20150817T1445Z_9nYN7gp2eWAJHIfT.json.gz"
    )
    assert digest_key(location, "my-trail", "us-west-2", END) == (
        "audit/AWSLogs/o-a1b2c3d4e5/111122223333/CloudTrail-Digest/us-east-2/2015/08/17/"
        "111122223333_CloudTrail-Digest_us-east-2_my-trail_us-west-2_20150817T150131Z.json.gz"
    )
    assert location.root == "audit/AWSLogs/o-a1b2c3d4e5/"
    assert PLACE.root == "AWSLogs/111122223333/"


@given(
    st.just("") | st.from_regex(r"o-[a-z0-9]{10,32}", fullmatch=True),
    st.from_regex(r"[1-9]{12}", fullmatch=True),
    st.sampled_from(["us-east-1", "eu-west-1"]),
)
def test_a_place_is_read_from_its_key(organization: str, account: str, region: str) -> None:
    place = DeliveryPlace(organization, account, region)
    assert DeliveryPlace.of_key(place.key, account) == place
    # The format of earlier versions.
    assert DeliveryPlace("", account, region).key == region


@pytest.mark.parametrize("prefix", ["audit/prod", "audit/prod/"])
def test_prefix_is_unchanged_before_a_slash_and_awslogs(prefix: str) -> None:
    place = LogFileLocation("my-bucket", prefix, "111122223333", "us-east-2")
    start = f"{prefix}/AWSLogs/111122223333/"
    assert log_key(place, MOMENT, "u" * 16).startswith(start)
    assert digest_key(place, "t", "us-east-2", END).startswith(start)


def test_days_and_minutes_in_keys_are_in_utc() -> None:
    tokyo = datetime(2020, 1, 1, 8, 30, 5, tzinfo=timezone(timedelta(hours=9)))
    assert "/2019/12/31/" in log_key(PLACE, tokyo, "u" * 16)
    assert "_20191231T2330Z_" in log_key(PLACE, tokyo, "u" * 16)
    assert digest_key(PLACE, "t", "us-east-2", tokyo).endswith("_20191231T233005Z.json.gz")


def test_a_unique_string_depends_on_its_parts() -> None:
    assert re.fullmatch(r"[A-Za-z0-9]{16}", unique_string("trail", 1, "us-east-1"))
    assert unique_string("trail", 1) == unique_string("trail", 1)
    made = {unique_string("trail", number) for number in range(2_000)}
    assert len(made) == 2_000


def test_parts_of_a_unique_string_stay_separate() -> None:
    assert unique_string("ab", "c") != unique_string("a", "bc")
    assert unique_string(1) != unique_string("1")


# Log files


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=50)
@given(st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=5)), max_size=5))
def test_a_log_file_has_its_records_exact_bytes(records: list[dict[str, str]]) -> None:
    raw = [record_bytes(record) for record in records]
    content = log_bytes(raw)
    assert json.loads(content) == {"Records": records}
    assert all(part in content for part in raw)


def test_a_log_file_is_one_line() -> None:
    assert log_bytes([b'{"a":1}', b'{"b":2}']) == b'{"Records":[{"a":1},{"b":2}]}'


def test_a_hash_is_lower_case_hex() -> None:
    assert sha256_hex(b"") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


# Digest files
