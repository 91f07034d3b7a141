"""A trail, its spans, and the valid names of its members."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.errors import CloudTrailError
from opentrail.core.trail import (
    Span,
    Trail,
    check_bucket_name,
    check_prefix,
    check_trail_name,
    epoch,
    includes,
    stored_time,
)
from tests.factories import ACCOUNT, a_trail

NOW = "2020-01-01T09:00:00.000000+00:00"
LATER = "2020-01-01T10:00:00.000000+00:00"

selectors = st.none() | st.sampled_from([{"EventSelectors": [{"ReadWriteType": "All"}]}])
insights = st.sampled_from([[], [{"InsightType": "ApiCallRateInsight"}]])
spans = st.builds(
    Span,
    after=st.integers(0, 10**9),
    until=st.none() | st.integers(0, 10**9),
    started_at=st.just(NOW),
    bucket=st.text(max_size=8),
    prefix=st.text(max_size=8),
    every_region=st.booleans(),
    global_services=st.booleans(),
    validation=st.booleans(),
    closing_event=st.none() | st.text(max_size=8),
    continues=st.booleans(),
    selectors=selectors,
    insight_selectors=insights,
)
trails = st.builds(
    Trail,
    uid=st.text(max_size=8),
    name=st.text(max_size=8),
    account=st.just(ACCOUNT),
    home_region=st.text(max_size=8),
    bucket=st.text(max_size=8),
    prefix=st.text(max_size=8),
    include_global_services=st.booleans(),
    multi_region=st.booleans(),
    validation=st.booleans(),
    created_at=st.just(NOW),
    logging=st.booleans(),
    started_at=st.none() | st.just(NOW),
    stopped_at=st.none() | st.just(LATER),
    deleted=st.booleans(),
    spans=st.lists(spans, max_size=3).map(tuple),
    selectors=selectors,
    insight_selectors=insights,
)


def a_span(**changes: object) -> Span:
    return replace(Span(0, None, NOW, "my-bucket", "", False, True, False), **changes)  # type: ignore[arg-type]


WRITES = {"EventSelectors": [{"ReadWriteType": "WriteOnly"}]}


# Spans


def test_trail_has_its_arn_in_its_home_region() -> None:
    trail = a_trail(name="my-trail", home_region="eu-central-1")
    assert trail.arn == f"arn:aws:cloudtrail:eu-central-1:{ACCOUNT}:trail/my-trail"


def test_a_started_trail_delivers_from_the_next_position() -> None:
    trail = a_trail(prefix="audit", multi_region=True, validation=True).started(41, NOW)
    assert trail.logging
    assert trail.started_at == NOW
    assert trail.spans == (
        Span(
            after=41,
            until=None,
            started_at=NOW,
            bucket="my-bucket",
            prefix="audit",
            every_region=True,
            global_services=True,
            validation=True,
            closing_event=None,
            continues=False,
        ),
    )
    assert trail.spans[0].open


def test_position_is_in_the_span_that_delivers_it() -> None:
    first, second = a_span(after=10, until=20, bucket="old"), a_span(after=30)
    trail = a_trail(spans=(first, second))
    found = {position: trail.span_of(position) for position in (10, 11, 20, 21, 30, 31, 99)}
    expected = {10: None, 11: first, 20: first, 21: None, 30: None, 31: second, 99: second}
    assert found == expected


def test_a_stopped_trail_waits_for_its_calls_position() -> None:
    trail = a_trail().started(41, NOW).stopped("event-stop", LATER)
    assert not trail.logging
    assert trail.stopped_at == LATER
    (span,) = trail.spans
    assert not span.open
    assert (span.until, span.closing_event) == (None, "event-stop")


def test_a_stopped_span_ends_with_its_last_call() -> None:
    trail = (
        a_trail().started(41, NOW).stopped("event-stop", LATER).with_closed_span("event-stop", 50)
    )
    (span,) = trail.spans
    assert (span.after, span.until, span.closing_event) == (41, 50, None)
    assert not span.open


def test_a_changed_trail_delivers_earlier_calls_as_before() -> None:
    trail = replace(a_trail().started(41, NOW), bucket="new-bucket")
    changed = trail.reconfigured("event-update", 45, LATER).with_closed_span("event-update", 50)
    before, after = changed.spans
    assert (before.bucket, before.after, before.until) == ("my-bucket", 41, 50)
    assert (after.bucket, after.after, after.until) == ("new-bucket", 50, None)
    assert not before.continues
    assert after.continues, "its digest chain continues"
    assert after.open
    assert changed.logging


def test_a_span_keeps_the_selectors_of_its_time() -> None:
    started = a_trail().started(41, NOW)
    changed = replace(started, selectors=WRITES).reconfigured("event-put", 45, LATER)
    assert [span.selectors for span in changed.spans] == [None, WRITES]
    assert replace(changed.spans[1], selectors=None) == replace(
        started.spans[0], after=45, started_at=LATER, continues=True
    )


def test_an_old_trail_without_selectors_is_read() -> None:
    trail = a_trail().started(41, NOW)
    document = trail.document()
    del document["selectors"]
    for span in document["spans"]:
        del span["selectors"]
    assert Trail.from_document(document) == trail


def test_changing_a_stopped_trail_adds_no_span() -> None:
    trail = a_trail(bucket="new-bucket")
    assert trail.reconfigured("event-update", 45, LATER) is trail
    stopped = a_trail().started(1, NOW).stopped("event-stop", LATER)
    assert stopped.reconfigured("event-update", 45, LATER) is stopped


def test_a_restarted_trail_has_a_new_chain() -> None:
    trail = (
        a_trail()
        .started(1, NOW)
        .stopped("stop", LATER)
        .with_closed_span("stop", 5)
        .started(9, LATER)
    )
    assert [(span.after, span.until) for span in trail.spans] == [(1, 5), (9, None)]
    assert not trail.spans[1].continues


def test_two_unsettled_changes_leave_no_gap() -> None:
    trail = a_trail().started(10, NOW)
    trail = trail.reconfigured("first", 12, LATER).reconfigured("second", 12, LATER)
    trail = trail.with_closed_span("first", 13).with_closed_span("second", 17)
    assert [(span.after, span.until) for span in trail.spans] == [(10, 13), (13, 17), (17, None)]


def test_settling_a_call_that_closed_nothing_changes_nothing() -> None:
    trail = a_trail().started(10, NOW)
    assert trail.with_closed_span("somebody-else", 20) == trail


def test_a_span_never_ends_before_it_begins() -> None:
    trail = a_trail().started(10, NOW).stopped("stop", LATER).with_closed_span("stop", 7)
    assert (trail.spans[0].after, trail.spans[0].until) == (10, 10)


@pytest.mark.hypothesis
@settings(deadline=None, max_examples=50)
@given(trails)
def test_a_trail_is_read_back_from_its_document(trail: Trail) -> None:
    assert Trail.from_document(trail.document()) == trail
    stored = json.loads(json.dumps(trail.document()))
    assert Trail.from_document(stored) == trail


# Events in a span


@pytest.mark.parametrize(
    ("every_region", "global_services", "region", "source", "included"),
    [
        (False, True, "us-east-1", "s3.amazonaws.com", True),
        (False, True, "us-east-1", "iam.amazonaws.com", True),
        (False, True, "eu-west-1", "s3.amazonaws.com", False),
        (False, False, "us-east-1", "s3.amazonaws.com", True),
        (False, False, "us-east-1", "sts.amazonaws.com", True),
        (False, False, "us-east-1", "iam.amazonaws.com", False),
        (False, False, "us-east-1", "cloudfront.amazonaws.com", False),
        (True, True, "eu-west-1", "s3.amazonaws.com", True),
        (True, True, "us-east-1", "iam.amazonaws.com", True),
    ],
)
def test_a_us_east_1_trail_includes_selected_events(
    every_region: bool, global_services: bool, region: str, source: str, included: bool
) -> None:
    span = a_span(every_region=every_region, global_services=global_services)
    assert includes(span, "us-east-1", region, source) is included


def test_another_regions_trail_has_no_global_services() -> None:
    """Since 2021-11-22 (cloudtrail-format §8.2): they are recorded in us-east-1."""
    span = a_span(every_region=False, global_services=True)
    assert not includes(span, "eu-west-1", "us-east-1", "iam.amazonaws.com")


# Times


def test_a_stored_time_has_microseconds_in_utc() -> None:
    moment = datetime(2020, 1, 1, 9, 0, 0, 5, tzinfo=UTC)
    assert stored_time(moment) == "2020-01-01T09:00:00.000005+00:00"
    assert epoch(stored_time(moment)) == moment.timestamp()


def test_stored_time_in_another_zone_is_the_same() -> None:
    moment = datetime(2020, 1, 1, 10, tzinfo=timezone(timedelta(hours=1)))
    assert epoch(stored_time(moment)) == datetime(2020, 1, 1, 9, tzinfo=UTC).timestamp()


# Names of trails


def message_about_trail(name: str) -> str:
    with pytest.raises(CloudTrailError) as refused:
        check_trail_name(name)
    assert refused.value.code == "InvalidTrailNameException"
    return refused.value.message


@pytest.mark.parametrize(
    "name", ["abc", "my-trail", "My_Trail.1", "a" * 128, "management-events", "1.2.3", "0a9"]
)
def test_a_valid_trail_name_is_accepted(name: str) -> None:
    check_trail_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "ab",
            "Trail name too short. Minimum allowed length: 3 characters. "
            "Specified name length: 2 characters.",
        ),
        (
            "",
            "Trail name too short. Minimum allowed length: 3 characters. "
            "Specified name length: 0 characters.",
        ),
        (
            "a" * 129,
            "Trail name too long. Maximum allowed length: 128 characters. "
            "Specified name length: 129 characters.",
        ),
        ("-abc", "Trail name must starts with a letter or number."),
        ("../../etc", "Trail name must starts with a letter or number."),
        ("#trail", "Trail name must starts with a letter or number."),
    ]
    + [
        (name, "Trail name must ends with a letter or number.")
        for name in ("abc_", "trail!", "trail\n", "trail²")
    ]
    + [
        (
            name,
            "Trail name or ARN can only contain uppercase letters, lowercase letters, numbers, "
            "periods (.), hyphens (-), and underscores (_).",
        )
        for name in ("my trail", "my/trail", "my#trail", "träil", "a\x00b")
    ],
)
def test_invalid_trail_name_is_refused_as_by_aws(name: str, message: str) -> None:
    assert message_about_trail(name) == message


@pytest.mark.parametrize("name", ["my..trail", "my--trail", "my_-trail", "192.168.5.4"])
def test_adjacent_marks_and_addresses_are_not_names(name: str) -> None:
    assert message_about_trail(name)


# Names of buckets and prefixes


@pytest.mark.parametrize("name", ["abc", "my-bucket", "my.bucket.1", "a" * 63, "123", "1-a"])
def test_a_valid_bucket_name_is_accepted(name: str) -> None:
    check_bucket_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "ab",
        "",
        "a" * 64,
        "My-bucket",
        "my_bucket",
        "my bucket",
        "-bucket",
        "bucket-",
        ".bucket",
        "bucket.",
        "my..bucket",
        "my.-bucket",
        "my-.bucket",
        "192.168.5.4",
        "bucket\n",
        "bucket/key",
        "bückét",
    ],
)
def test_an_invalid_s3_bucket_name_is_refused(name: str) -> None:
    with pytest.raises(CloudTrailError) as refused:
        check_bucket_name(name)
    assert refused.value.code == "InvalidS3BucketNameException"


@pytest.mark.parametrize(
    "prefix", ["audit", "audit/", "audit/prod/2020", "a" * 200, "it's (1)!*_.-", "a.b", "...a"]
)
def test_a_valid_prefix_is_accepted(prefix: str) -> None:
    check_prefix(prefix)


@pytest.mark.parametrize(
    "prefix",
    [
        "a" * 201,
        "/audit",
        "//",
        "audit//prod",
        "../secret",
        "audit/../..",
        "audit/.",
        "./audit",
        "..",
        ".",
        "audit\n",
        "audit/\n",
        "audit\x00",
        "äudit",
        "a\\..\\b",
        "a%2fb",
    ],
)
def test_an_unsafe_prefix_is_refused(prefix: str) -> None:
    with pytest.raises(CloudTrailError) as refused:
        check_prefix(prefix)
    assert refused.value.code == "InvalidS3PrefixException"


@pytest.mark.hypothesis
@settings(deadline=None)
@given(st.text(st.sampled_from("ab./\\\n \x00é%-_"), max_size=12))
def test_no_prefix_climbs_or_has_control_bytes(prefix: str) -> None:
    try:
        check_prefix(prefix)
    except CloudTrailError:
        return
    parts = prefix.removesuffix("/").split("/")
    assert all(part not in ("", ".", "..") for part in parts)
    assert prefix.isascii()
    assert prefix.isprintable()
