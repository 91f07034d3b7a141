"""Keys are read strictly, by cloudtrail-format §5.1 and independent of the writer."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.logfile import LogFileLocation, digest_key, log_key, unique_string
from opentrail.validation.bucket_objects import (
    ChainId,
    digest_name,
    folder_of,
    format_time,
    log_minute,
    log_name,
    minute_after,
    minute_of,
    read_time,
    split_key,
)
from tests.fakes import utc

LOG = (
    "AWSLogs/123456789012/CloudTrail/us-east-1/2020/01/01/"
    "123456789012_CloudTrail_us-east-1_20200101T0905Z_9nYN7gp2eWAJHIfT.json.gz"
)
DIGEST = (
    "AWSLogs/123456789012/CloudTrail-Digest/us-east-2/2020/01/01/"
    "123456789012_CloudTrail-Digest_us-east-2_my_trail_us-east-1_20200101T090131Z.json.gz"
)


def test_digests_name_has_its_chain_and_its_end() -> None:
    name = digest_name(DIGEST)
    assert name is not None
    assert name.chain == ChainId("123456789012", "us-east-2", "my_trail", "us-east-1")
    assert name.stamp == utc("2020-01-01T09:01:31")


def test_a_backfill_digest_belongs_to_a_separate_chain() -> None:
    name = digest_name(DIGEST.replace(".json.gz", "_backfill.json.gz"))
    assert name is not None
    assert name.chain.backfill
    assert "(backfill)" in name.chain.describe()


def test_names_of_an_organization_have_its_id() -> None:
    digest = digest_name(DIGEST.replace("AWSLogs/", "AWSLogs/o-exampleorgid/"))
    log = log_name(LOG.replace("AWSLogs/", "AWSLogs/o-exampleorgid/"))
    assert digest is not None
    assert log is not None
    assert digest.chain.organization == log.place.organization == "o-exampleorgid"
    assert log.place.tail(log.short) == LOG.replace("AWSLogs/", "AWSLogs/o-exampleorgid/")


@pytest.mark.parametrize(
    "folder", ["CloudTrail-Insight", "CloudTrail-NetworkActivity", "CloudTrail-Aggregated"]
)
def test_log_files_of_other_kinds_are_log_files(folder: str) -> None:
    key = LOG.replace("CloudTrail/", f"{folder}/").replace("_CloudTrail_", f"_{folder}_")
    name = log_name(key)
    assert name is not None
    assert name.place.folder == folder


@pytest.mark.slow
@given(
    prefix=st.from_regex(r"\A([a-z0-9._-]{1,8}(/[a-z0-9._-]{1,8}){0,2})?\Z"),
    account=st.from_regex(r"\A[0-9]{12}\Z"),
    region=st.sampled_from(["us-east-1", "ap-southeast-4", "us-gov-west-1"]),
    moment=st.datetimes(
        min_value=utc("2013-01-01T00:00:00").replace(tzinfo=None),
        max_value=utc("2999-12-31T23:59:59").replace(tzinfo=None),
    ),
    number=st.integers(),
)
def test_names_round_trip(
    prefix: str, account: str, region: str, moment: datetime, number: int
) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    place = LogFileLocation("bucket", prefix, account, region)
    before, tail = split_key(log_key(place, moment, unique_string(number)))
    log = log_name(tail)
    assert log is not None
    assert before.rstrip("/") == prefix.rstrip("/")
    assert (log.place.account, log.place.region) == (account, region)
    assert log_minute(log.short) == minute_of(moment)
    assert log.place.tail(log.short) == tail
    digest = digest_name(split_key(digest_key(place, "my-trail", "eu-west-1", moment))[1])
    assert digest is not None
    assert digest.chain == ChainId(account, region, "my-trail", "eu-west-1")
    assert digest.stamp == moment


@pytest.mark.parametrize(
    "tail",
    [
        "",
        LOG + "x",
        LOG.replace("T0905Z", "T090500Z"),
        LOG.replace("/2020/01/01/", "/2020/01/02/"),
        LOG.replace("/123456789012_", "/123456789013_"),
        LOG.replace("CloudTrail_us-east-1", "CloudTrail_us-east-2"),
        LOG.replace("us-east-1/2020", "us-east-1/../2020"),
        LOG.replace("/CloudTrail/", "/CloudTrail-Other/"),
        LOG.replace("_CloudTrail_", "_CloudTrail-Digest_"),
        f"{LOG}\n",
        LOG.replace("2020", "\uff12\uff10\uff12\uff10"),
        DIGEST,
    ],
)
def test_other_names_are_no_log_files(tail: str) -> None:
    assert log_name(tail) is None


@pytest.mark.parametrize(
    "tail",
    [
        "",
        LOG,
        DIGEST.replace("090131Z", "0901Z"),
        DIGEST.replace("T090131Z", "T990131Z"),
        DIGEST.replace("/2020/01/01/", "/2020/01/02/"),
        DIGEST.replace("_my_trail_", "_"),
        DIGEST.replace("_backfill", "").replace(".json.gz", "_other.json.gz"),
    ],
)
def test_other_names_are_no_digest_files(tail: str) -> None:
    assert digest_name(tail) is None


def test_an_impossible_minute_is_none() -> None:
    assert log_minute(b"20200199T9999Z_AAAABBBBCCCCDDDD") is None


def test_a_key_is_split_where_cloudtrail_begins() -> None:
    assert split_key(f"team/a/{LOG}") == ("team/a/", LOG)
    assert split_key(LOG) == ("", LOG)
    assert split_key("notAWSLogs/x") == ("notAWSLogs/x", "")


def test_the_folder_of_a_strange_file_is_known() -> None:
    assert folder_of("AWSLogs/1/CloudTrail-Digest/x") == "CloudTrail-Digest"
    assert folder_of("AWSLogs/o-1/1/CloudTrail/x") == "CloudTrail"
    assert folder_of("AWSLogs/1/Config/x") == ""


def test_times_are_read_in_one_form_only() -> None:
    assert format_time(read_time("2020-01-01T09:00:00Z")) == "2020-01-01T09:00:00Z"
    for text in ("2020-01-01 09:00:00", "2020-01-01T09:00:00+00:00", "2020-13-01T09:00:00Z", 5):
        with pytest.raises(ValueError, match=r"not a time|match|month"):
            read_time(text)


def test_a_minute_is_followed_by_the_next() -> None:
    assert minute_after(minute_of(utc("2020-01-01T09:59:59"))) == utc("2020-01-01T10:00:00")
