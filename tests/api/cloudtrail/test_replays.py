"""A signature is valid for one call that changes state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.api.cloudtrail.replays import MOMENT, Replays
from opentrail.core.errors import CloudTrailError
from tests.fakes import Breaker, Documents, MemoryControl, PowerCutError, asynchronous, run

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + MOMENT + timedelta(milliseconds=1)
VALID = NOW + timedelta(minutes=5)


async def code_of(replays: Replays, signature: str, now: datetime = NOW) -> str:
    """Returns the code of the answer to a signature."""
    try:
        await replays.use(signature, VALID, now)
    except CloudTrailError as error:
        return error.code
    return "ok"


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 20))))
def test_copy_becomes_a_replay_after_a_moment(calls: list[tuple[int, int]]) -> None:
    async def story() -> None:
        replays, first = Replays(MemoryControl()), dict[int, datetime]()
        moment = NOW
        for pause, signature in calls:
            moment += timedelta(seconds=pause / 2)
            is_old = moment - first.setdefault(signature, moment) > MOMENT
            expected = "InvalidSignatureException" if is_old else "ok"
            assert await code_of(replays, str(signature), moment) == expected

    run(story())


@asynchronous
async def test_no_other_server_accepts_a_used_signature() -> None:
    disk: Documents = {}
    assert await code_of(Replays(MemoryControl(disk)), "a") == "ok"
    other = Replays(MemoryControl(disk))
    assert await code_of(other, "a") == "ServiceUnavailable"
    assert await code_of(other, "a", LATER) == "InvalidSignatureException"
    assert await code_of(other, "a", NOW - timedelta(hours=1)) == "InvalidSignatureException"
    assert await code_of(other, "b") == "ok"


@asynchronous
async def test_valid_signatures_are_never_forgotten() -> None:
    control = MemoryControl()
    replays = Replays(control)
    for number in range(100):
        await replays.use(f"old {number}", NOW + timedelta(seconds=number), NOW)
    assert await code_of(replays, "a") == "ok"
    await replays.use("b", VALID + timedelta(hours=1), VALID + timedelta(minutes=14))
    assert await code_of(replays, "a", VALID) == "InvalidSignatureException"
    await replays.use("c", VALID + timedelta(hours=1), VALID + timedelta(minutes=16))
    assert [key for _, key in control.disk if key < "2026-01-01T01"] == []
    assert len(control.disk) == 2


@asynchronous
async def test_call_is_refused_if_its_signature_is_not_stored() -> None:
    replays = Replays(MemoryControl(breaker=Breaker(at=3)))
    await replays.use("a", VALID, NOW)
    with pytest.raises(PowerCutError):
        await replays.use("b", VALID, NOW)
