"""Moto's own tests pass with and without the endpoint, and every call is recorded.

Each suite runs in moto's server mode twice at the same time: against a moto server, and against
opentrail before another one. Tests that moto itself skips in server mode, or marks as needing
Docker, are left out on both sides.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.moto_suites import (
    Moto,
    NoRegistryError,
    Run,
    Suite,
    prepared,
    run_directly,
    run_through,
)

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.conformance]

#: The SDK puts buckets into paths unless the endpoint is AWS's own, or a setting decides.
_VIRTUAL_HOSTS = "[default]\ns3 =\n    addressing_style = virtual\n"
SUITES = {
    "sts": Suite(("tests/test_sts",), 30),
    "kms": Suite(("tests/test_kms",), 240),
    "iam": Suite(("tests/test_iam",), 360),
    "lambda": Suite(("tests/test_awslambda",), 120),
    "sns": Suite(("tests/test_sns",), 195),
    "sqs": Suite(("tests/test_sqs",), 155),
    "dynamodb": Suite(("tests/test_dynamodb",), 690),
    "s3": Suite(("tests/test_s3",), 465),
    "s3 by virtual hosts": Suite(("tests/test_s3",), 460, sdk=_VIRTUAL_HOSTS),
    # With all of AWS's images in it, each reset takes moto a quarter of a second.
    "ec2": Suite(("tests/test_ec2",), 890, server={"MOTO_EC2_LOAD_DEFAULT_AMIS": "false"}),
}
#: Excluded tests, with the reason.
EXCEPTED = {
    "tests/test_s3/test_server.py::test_s3_server_post_cors_multiple_origins": (
        "starts a moto server on port 6789, which the other run also needs"
    ),
}


@pytest.fixture(scope="module")
def moto(request: pytest.FixtureRequest) -> Moto:
    assert request.config.cache is not None
    try:
        return prepared(request.config.cache.mkdir("opentrail-moto"))
    except NoRegistryError as error:
        pytest.skip(f"moto's source distribution needs a package registry: {error}")


@pytest.mark.parametrize("name", SUITES)
def test_a_suite_passes_through_the_endpoint(
    name: str, moto: Moto, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    left_out = [f"--deselect={test}" for test in EXCEPTED]
    suite = SUITES[name]
    first = Pair.of(moto, suite, tmp_path / "first", [*suite.paths, *left_out])
    record_property("figures", first.figures(name))
    assert len(first.direct.passed) >= suite.least
    check_records(first.through)
    if first.differing:
        judge(first, Pair.of(moto, suite, tmp_path / "second", first.differing))


@dataclass(frozen=True, slots=True)
class Pair:
    """The same tests without opentrail and through it."""

    direct: Run
    through: Run

    @classmethod
    def of(cls, moto: Moto, suite: Suite, folder: Path, tests: Collection[str]) -> Pair:
        folder.mkdir()
        with ThreadPoolExecutor(2) as pool:
            direct = pool.submit(run_directly, moto, suite, folder / "direct", tests)
            through = pool.submit(run_through, moto, suite, folder / "through", tests)
            return cls(direct.result(), through.result())

    @property
    def differing(self) -> list[str]:
        """Returns the tests that passed on one side only."""
        return sorted(self.direct.passed ^ self.through.passed)

    def figures(self, name: str) -> str:
        """Returns one line for the report."""
        direct, through = self.direct, self.through
        return (
            f"moto {name}: {len(through.outcomes)} tests, {len(direct.passed)} pass directly "
            f"({direct.seconds:.0f} s), {len(through.passed)} through ({through.seconds:.0f} s); "
            f"{through.calls} calls and {len(through.targets) - through.calls} controls, "
            f"{len(through.records)} records, {len(through.undecoded)} undecoded"
        )


def check_records(run: Run) -> None:
    """Each request at moto, including its own controls, has a record."""
    assert run.calls > 0
    assert len(run.records) == len(run.targets) + len(copies(run)) + len(parts(run))
    assert run.undecoded == []
    assert run.counters["opentrail_records_total"] == len(run.records)
    assert run.counters["opentrail_refused_calls_total"] == 0
    assert run.counters["opentrail_lost_records_total"] == 0


def copies(run: Run) -> list[Any]:
    """Returns the second records of calls that touched another account's resource."""
    found = [
        record
        for record in run.records
        if "sharedEventID" in record and record["userIdentity"]["type"] == "AWSAccount"
    ]
    shared = [record["sharedEventID"] for record in run.records if "sharedEventID" in record]
    assert all(shared.count(record["sharedEventID"]) > 1 for record in found)
    return found


def parts(run: Run) -> list[Any]:
    """Returns the records of objects that one call deleted together."""
    calls = {r["eventID"] for r in run.records if r["eventName"] == "DeleteObjects"}
    found = [
        record
        for record in run.records
        if "partOf" in ((record.get("additionalEventData") or {}).get("opentrail") or {})
    ]
    for record in found:
        assert record["eventName"] == "DeleteObject"
        assert record["additionalEventData"]["opentrail"]["partOf"] in calls
        assert "outcome" not in record["additionalEventData"]["opentrail"]
    return found


def judge(first: Pair, second: Pair) -> None:
    """Names the tests that differ between two direct runs; fails for all other differences."""
    real, flaky = [], []
    for test in first.differing:
        is_flaky = (test in first.direct.passed) != (test in second.direct.passed)
        passed_through = test in first.through.passed | second.through.passed
        if is_flaky and passed_through:
            flaky.append(test)
            continue
        reason = first.through.reasons.get(test) or first.direct.reasons.get(test, "not run")
        real.append(f"{test}\n{reason}")
    if flaky:
        warnings.warn(f"also flaky without opentrail: {', '.join(flaky)}", stacklevel=2)
    assert not real, "\n\n".join(real)
