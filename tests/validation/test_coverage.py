"""The position of a minute relative to a chain."""

from __future__ import annotations

from datetime import datetime

import pytest

from opentrail.validation.bucket_objects import FoundDigest, digest_name, split_key
from opentrail.validation.buckets import BucketRoot
from opentrail.validation.chains import Chain, DigestFile, Ending, UncoveredPeriod
from opentrail.validation.coverage import Coverage, coverage_of, longest_wait
from opentrail.validation.digests import read_digest
from tests.fakes import utc
from tests.validation.delivered import MemoryReader, six_hours


def chain() -> Chain:
    """Returns a chain from 9 to 15 o'clock, completely proven."""
    trail = six_hours()
    root = BucketRoot(MemoryReader(trail.objects), "my-bucket", "")
    files = []
    for key in trail.digests():
        name = digest_name(split_key(key)[1])
        assert name is not None
        digest = read_digest(trail.bucket[key].content)
        files.append(DigestFile(FoundDigest(root, key, name), digest, proof="00"))
    return Chain(files[0].found.name.chain, files)


def at(text: str) -> datetime:
    return utc(f"2020-01-01T{text}:00")


@pytest.mark.parametrize(
    ("minute", "where"),
    [
        ("08:59", Coverage.BEFORE),
        ("09:00", Coverage.COVERED),
        ("12:30", Coverage.COVERED),
        ("14:59", Coverage.COVERED),
        ("15:00", Coverage.PENDING),
        ("17:14", Coverage.PENDING),
        ("17:15", Coverage.GAP),
    ],
)
def test_minute_is_before_in_or_after_a_chain(minute: str, where: Coverage) -> None:
    assert coverage_of(chain(), at(minute))[0] is where


def test_late_log_files_make_a_gap() -> None:
    there = chain()
    for minute in ("20:00", "18:00"):
        assert coverage_of(there, at(minute))[0] is Coverage.GAP
    (gap,) = there.gaps
    assert (gap.start, gap.end) == (at("15:00"), at("20:01"))


def test_a_minute_in_a_gap_is_not_covered() -> None:
    there = chain()
    gap = UncoveredPeriod(at("11:00"), at("12:00"))
    stopped = UncoveredPeriod(at("12:00"), at("13:00"), ending=Ending("StopLogging", at("12:00")))
    unvalidated = UncoveredPeriod(
        at("13:00"), at("14:00"), ending=Ending("UpdateTrail", at("13:00"))
    )
    there.gaps = [gap, stopped, unvalidated]
    assert coverage_of(there, at("11:30")) == (Coverage.GAP, gap)
    assert coverage_of(there, at("12:30")) == (Coverage.COVERED, None)
    assert coverage_of(there, at("13:30")) == (Coverage.UNVALIDATED, None)


def test_a_disabled_chain_ends_the_validation() -> None:
    there = chain()
    there.ending = Ending("UpdateTrail", at("15:00"))
    assert coverage_of(there, at("20:00")) == (Coverage.UNVALIDATED, None)


def test_everything_without_a_digest_is_a_gap() -> None:
    there = chain()
    assert coverage_of(Chain(there.id, []), at("12:00")) == (Coverage.GAP, None)


def test_longest_wait_follows_the_usual_time() -> None:
    good = [file.digest for file in chain().files if file.digest]
    assert longest_wait(good).total_seconds() == 2 * 3600 + 900


@pytest.mark.parametrize(
    ("minute", "where"),
    [("11:59", Coverage.COVERED), ("12:00", Coverage.NOT_YET), ("14:59", Coverage.NOT_YET)],
)
def test_events_during_clock_step_back_are_not_covered(minute: str, where: Coverage) -> None:
    assert coverage_of(chain(), at(minute), now=at("12:30"))[0] is where
    assert coverage_of(chain(), at(minute), now=at("15:01"))[0] is Coverage.COVERED
