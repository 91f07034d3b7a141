"""Times and names of records."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.core.event import format_time, parse_time, without_version

ZONES = st.integers(-14 * 60, 14 * 60).map(lambda m: timezone(timedelta(minutes=m)))
#: Times of computers, a day away from the end of the calendar, so that every zone has them.
MOMENTS = st.datetimes(datetime(1970, 1, 2), datetime(9999, 12, 29), timezones=ZONES)  # noqa: DTZ001


def test_time_is_written_in_utc_and_whole_seconds() -> None:
    berlin = timezone(timedelta(hours=1))
    moment = datetime(2020, 1, 1, 9, 0, 0, 999999, tzinfo=berlin)
    assert format_time(moment) == "2020-01-01T08:00:00Z"


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2020-01-01T09:00:00Z", datetime(2020, 1, 1, 9, tzinfo=UTC)),
        ("2020-01-01T09:00:00+00:00", datetime(2020, 1, 1, 9, tzinfo=UTC)),
        ("2020-01-01T09:00:00.250+02:00", datetime(2020, 1, 1, 7, 0, 0, 250000, tzinfo=UTC)),
        ("2020-01-01T09:00:00", datetime(2020, 1, 1, 9, tzinfo=UTC)),
        ("2020-01-01", datetime(2020, 1, 1, tzinfo=UTC)),
        ("20200101T090000Z", datetime(2020, 1, 1, 9, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_as_utc(text: str, moment: datetime) -> None:
    read = parse_time(text)
    assert read == moment
    assert read.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "yesterday", "2020-13-01T00:00:00Z", "1577869200"),
        *("0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"),
    ],
)
def test_an_invalid_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"isoformat|month must be|out of range"):
        parse_time(text)


@pytest.mark.hypothesis
@settings(deadline=None)
@given(MOMENTS)
def test_written_time_loses_only_fractions(moment: datetime) -> None:
    written = format_time(moment)
    assert parse_time(written) == moment.astimezone(UTC).replace(microsecond=0)


@pytest.mark.hypothesis
@settings(deadline=None)
@given(MOMENTS, MOMENTS)
def test_written_times_are_ordered_like_times(a: datetime, b: datetime) -> None:
    if a.astimezone(UTC).replace(microsecond=0) < b.astimezone(UTC).replace(microsecond=0):
        assert format_time(a) < format_time(b)


def test_only_a_version_is_cut_from_a_name() -> None:
    assert without_version("ListObjects") == "ListObjects"
    assert without_version("Md5Check2020") == "Md5Check2020"
