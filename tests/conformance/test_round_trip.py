"""Every operation of every service, sent by botocore through the endpoint, is recorded right."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.expect import EXCEPTED
from tests.conformance.generate import PROTOCOLS, Case, cases, sampled, service_model, services
from tests.conformance.round_trip import Outcome, round_trip

pytestmark = [pytest.mark.live, pytest.mark.slow]

#: Number of operations of each service in the sample.
_OF_EACH = 6
_MAX_EXCEPTED = 40


def sample() -> Iterator[Case]:
    for service in services():
        yield from cases(service, sampled(service, _OF_EACH))


def everything() -> Iterator[Case]:
    for service in services():
        yield from cases(service)


@pytest.mark.campaign
def test_a_sample_of_every_service_is_recorded_right(tmp_path: Path) -> None:
    outcome = round_trip(tmp_path, sample())
    check(outcome)
    assert len(outcome.operations) >= 2_000


@pytest.mark.conformance
def test_every_operation_is_recorded_right(tmp_path: Path) -> None:
    outcome = round_trip(tmp_path, everything())
    print(outcome.counts())
    check(outcome)
    all_operations = {f"{s}.{o}" for s in services() for o in service_model(s).operation_names}
    excepted = {f"{service}.{operation}" for service, operation in EXCEPTED}
    assert outcome.operations == all_operations - excepted
    assert excepted <= all_operations
    assert len(excepted) <= _MAX_EXCEPTED


def check(outcome: Outcome) -> None:
    assert set(outcome.tried) == set(PROTOCOLS)
    assert not outcome.wrong, outcome.report()
