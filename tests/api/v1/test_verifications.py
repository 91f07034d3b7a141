"""The last findings in the bucket of each trail."""

from __future__ import annotations

from opentrail.api.v1.proofs import Verifications
from tests.factories import a_trail
from tests.fakes import MemoryControl, SettableClock, asynchronous

BAD = "NOT GOOD\tlog file\ts3://b/{}\thash value doesn't match"
PROOF = {"bucket": "b", "fault": "log", "message": "The log file was changed."}


@asynchronous
async def test_the_latest_verification_replaces_earlier_findings() -> None:
    clock = SettableClock()
    verifications = Verifications(MemoryControl(), clock)
    trail, other = a_trail(), a_trail(uid="other", name="other")
    assert await verifications.of(trail) is None
    lines = [
        BAD.format("x"),
        "UNKNOWN\tgap\tchain\tno digest",
        "trail my-trail: 1/2 valid",
        "not good",
    ]
    await verifications.store(trail, False, lines)
    found = await verifications.of(trail)
    assert found is not None
    assert found["findings"] == [
        {"name": "s3://b/x", "reason": "hash value doesn't match", "event": None}
    ]
    assert (found["at"], found["valid"]) == ("2020-01-01T09:00:00Z", False)
    clock.advance(60)
    await verifications.store(trail, True, ["good"])
    assert await verifications.of(trail) == {
        "at": "2020-01-01T09:01:00Z",
        "valid": True,
        "findings": [],
        "more": 0,
    }
    assert await verifications.of(other) is None


@asynchronous
async def test_many_findings_are_counted() -> None:
    verifications = Verifications(MemoryControl(), SettableClock())
    await verifications.store(a_trail(), False, [BAD.format(number) for number in range(25)])
    found = await verifications.of(a_trail())
    assert found is not None
    assert (len(found["findings"]), found["more"]) == (20, 5)


@asynchronous
async def test_a_broken_proof_is_kept_until_a_verification() -> None:
    verifications = Verifications(MemoryControl(), SettableClock())
    await verifications.store(a_trail(), True, [])
    for event in ("first", "second", "first"):
        await verifications.add_broken(a_trail(), event, PROOF)
    found = await verifications.of(a_trail())
    assert found is not None
    assert [each["event"] for each in found["findings"]] == ["first", "second"]
    assert found["findings"][0]["name"] == "s3://b/log"
    assert not found["valid"]
    await verifications.store(a_trail(), True, [])
    found = await verifications.of(a_trail())
    assert found is not None
    assert found["findings"] == []
