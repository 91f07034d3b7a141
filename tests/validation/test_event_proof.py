"""One event, from its log file to the signature of a digest, and every way to break this."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace as replaced
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.core.errors import ObjectStoreError
from opentrail.core.event import parse_time
from opentrail.validation import event_proof
from opentrail.validation.event_proof import (
    EventProof,
    EventProver,
    EventQuestion,
    ProofState,
)
from opentrail.validation.public_keys import PublicKeys
from tests.fakes import run
from tests.trails.world import BUCKET, World
from tests.validation.delivered import (
    Body,
    MemoryReader,
    Trail,
    after_hours,
    delivered,
    hours,
    six_hours,
    stopped_and_started,
    time_of,
)
from tests.validation.test_run import TAMPERED, Tamper


def records(trail: Trail, key: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(trail.content(key))["Records"]
    return found


def question(trail: Trail, log: str, /, **changes: Any) -> EventQuestion:
    """Asks about the last event of a log file, like the server that delivered it."""
    record = records(trail, log)[-1]
    asked = EventQuestion(
        event_id=record["eventID"],
        event_time=parse_time(record["eventTime"]),
        record=json.dumps(record),
        account=record["recipientAccountId"],
        region=record["awsRegion"],
        folder="CloudTrail",
        trail="my-trail",
        home_region="us-east-1",
        bucket=BUCKET,
        prefix="",
        validation=True,
        is_selected=True,
        is_delivered=True,
        known=next((each for each in trail.known if each["region"] == record["awsRegion"]), None),
    )
    return msgspec.structs.replace(asked, **changes)


def prove(trail: Trail, asked: EventQuestion, reader: MemoryReader | None = None) -> EventProof:
    found = attempt(trail, asked, reader)
    assert found is not None
    return found


def attempt(
    trail: Trail, asked: EventQuestion, reader: MemoryReader | None = None
) -> EventProof | None:
    now = max((time_of(key) for key in trail.digests()), default=asked.event_time)
    keys = PublicKeys(trail.public_keys())
    reader = reader or MemoryReader(trail.objects)
    return EventProver(reader, RsaVerifier(), keys, now + timedelta(hours=1)).prove(asked)


def test_first_digest_proves_every_delivered_event() -> None:
    trail = six_hours()
    for log in trail.logs():
        found = prove(trail, question(trail, log))
        assert (found.state, found.bucket, found.key) == (ProofState.PROVEN, BUCKET, log)
        assert found.digest_key in trail.digests()


def test_few_files_are_read_for_one_event() -> None:
    trail = six_hours()
    reader = MemoryReader(trail.objects)
    prove(trail, question(trail, trail.logs()[0]), reader)
    assert len(reader.opened) <= 4


def test_another_region_and_prefix_have_own_files() -> None:
    trail = six_hours()
    log = trail.logs("eu-west-1")[2]
    found = prove(trail, question(trail, log))
    assert (found.state, found.key) == (ProofState.PROVEN, log)

    async def story() -> Trail:
        world = World()
        await world.add(validation=True, prefix="team/a")
        await world.start_logging()
        await hours(world, 3, ("us-east-1",))
        return await delivered(world)

    trail = run(story())
    found = prove(trail, question(trail, trail.logs()[0], prefix="team/a"))
    assert (found.state, found.key) == (ProofState.PROVEN, trail.logs()[0])


def test_the_newest_log_file_waits_for_its_digest() -> None:
    trail = six_hours()
    asked = question(trail, trail.logs()[-1])
    newest, before = trail.digests()[-1], trail.digests()[-2]
    assert asked.known is not None
    del trail.bucket[newest]  # as before it was written
    known = {**asked.known, "newest": {**asked.known["newest"], "key": before}}
    known["newest"]["sha256"] = hashlib.sha256(trail.content(before)).hexdigest()
    found = prove(trail, msgspec.structs.replace(asked, known=known))
    assert (found.state, found.digest_key) == (ProofState.PENDING, None)
    assert "still to come" in found.message


def test_a_log_file_before_its_delivery_is_pending() -> None:
    trail = six_hours()
    asked = question(trail, trail.logs()[-1], event_id="later", is_delivered=False)
    found = prove(trail, asked)
    assert (found.state, found.key) == (ProofState.PENDING, None)


def test_a_changed_record_breaks_the_proof() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    changed = records(trail, log)
    changed[-1]["sourceIPAddress"] = "203.0.113.1"
    trail.edit(log, Records=changed)
    found = prove(trail, asked)
    assert (found.state, found.key) == (ProofState.BROKEN, log)
    assert "another record" in found.message


def test_changed_neighbour_in_the_file_breaks_the_proof() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    changed = records(trail, log)
    changed[0]["sourceIPAddress"] = "203.0.113.1"
    trail.edit(log, Records=changed)
    found = prove(trail, asked)
    assert (found.state, found.key) == (ProofState.BROKEN, log)
    assert "hash value" in found.message
    assert found.digest_key in trail.digests()
    assert found.fault == log


def test_a_removed_record_breaks_the_proof() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    trail.edit(log, Records=records(trail, log)[:-1])
    found = prove(trail, asked)
    assert (found.state, found.key) == (ProofState.BROKEN, log)
    assert found.message == "A log file of that time was changed, and may have had the event."


def test_a_flipped_byte_breaks_the_proof() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    stored = trail.bucket[log]
    flipped = bytearray(stored.content)
    flipped[len(flipped) // 2] ^= 1
    trail.bucket[log] = replaced(stored, content=bytes(flipped))
    found = prove(trail, asked)
    assert (found.state, found.key) == (ProofState.BROKEN, log)
    assert "gzip" in found.message


def test_a_deleted_log_file_breaks_the_proof() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    del trail.bucket[log]
    found = prove(trail, asked)
    assert (found.state, found.key) == (ProofState.BROKEN, log)
    assert "is missing" in found.message


def test_deleted_digest_breaks_the_proof_and_is_named() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    listing = prove(trail, asked).digest_key
    assert listing is not None
    del trail.bucket[listing]
    found = prove(trail, asked)
    assert (found.state, found.digest_key) == (ProofState.BROKEN, listing)
    assert found.fault == listing
    for key in trail.digests():
        del trail.bucket[key]
    assert asked.known is not None
    found = prove(trail, asked)
    assert (found.state, found.digest_key) == (ProofState.BROKEN, asked.known["newest"]["key"])


@pytest.mark.parametrize("members", [{"awsAccountId": "210987654321"}, {"logFiles": []}])
def test_a_changed_digest_breaks_the_proof(members: dict[str, Any]) -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    listing = prove(trail, asked).digest_key
    assert listing is not None
    trail.edit(listing, **members)
    assert prove(trail, asked).state is ProofState.BROKEN


def test_digest_signed_by_another_key_breaks_the_proof() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    trail.keys = []
    found = prove(trail, asked)
    assert found.state is ProofState.BROKEN
    assert "no public key" in found.message


def test_a_damaged_digest_breaks_the_proof() -> None:
    trail = six_hours()
    log = trail.logs()[3]
    asked = question(trail, log)
    listing = prove(trail, asked).digest_key
    assert listing is not None
    trail.put(listing, b"not JSON")
    found = prove(trail, asked)
    assert (found.state, found.digest_key) == (ProofState.BROKEN, listing)


def test_without_validation_a_found_event_is_unsigned() -> None:
    trail = after_hours(2, validation=False)
    found = prove(trail, question(trail, trail.logs()[0], validation=False))
    assert (found.state, found.key) == (ProofState.UNSIGNED, trail.logs()[0])


def test_an_event_before_validation_was_on_is_unsigned() -> None:
    async def story() -> Trail:
        world = World()
        await world.add(validation=False)
        await world.start_logging()
        await hours(world, 2, ("us-east-1",))
        await world.update(validation=True)
        await hours(world, 3, ("us-east-1",))
        return await delivered(world)

    trail = run(story())
    found = prove(trail, question(trail, trail.logs()[0]))
    assert (found.state, found.key) == (ProofState.UNSIGNED, trail.logs()[0])
    assert "was off when" in found.message
    proven = prove(trail, question(trail, trail.logs()[-4]))
    assert proven.state is ProofState.PROVEN


def test_a_restarted_chain_proves_both_sides() -> None:
    trail = stopped_and_started()
    states = {prove(trail, question(trail, log)).state for log in trail.logs()}
    assert states == {ProofState.PROVEN}


def test_unselected_events_are_left_out() -> None:
    trail = six_hours()
    asked = question(trail, trail.logs()[0], event_id="unknown", is_selected=None)
    assert attempt(trail, asked) is None
    kept = question(trail, trail.logs()[0], is_selected=None)
    assert prove(trail, kept).state is ProofState.PROVEN


async def _two_trails(first: dict[str, Any], second: dict[str, Any]) -> Trail:
    """Returns two trails' files in one folder, and the digests of both."""
    world = World()
    await world.add(**first)
    await world.add(name="other", uid="other", **second)
    for name in ("my-trail", "other"):
        await world.start_logging(name)
    for _ in range(9):
        world.clock.advance(1200)
        await world.event(2)
        for uid in ("other", "4f1c6a52-trail"):
            await world.deliver(uid=uid)
    return await delivered(world)


def test_trails_in_one_folder_prove_their_own_files() -> None:
    trail = run(_two_trails({"validation": True}, {"validation": True}))
    keys = {}
    for name in ("my-trail", "other"):
        asked = question(trail, trail.logs()[0], trail=name, is_shared=True)
        found = prove(trail, asked)
        assert found.state is ProofState.PROVEN, found
        assert f"_{name}_" in str(found.digest_key)
        keys[name] = found.key
    assert keys["my-trail"] != keys["other"]


def test_the_file_of_another_trail_is_no_proof() -> None:
    trail = run(_two_trails({"validation": True}, {"validation": False}))
    asked = question(trail, trail.logs()[0], is_shared=True)
    own = prove(trail, asked).key
    assert own is not None
    del trail.bucket[own]
    found = prove(trail, asked)
    assert (found.state, found.key) == (ProofState.BROKEN, own)
    other = question(
        trail, trail.logs()[0], trail="third", is_shared=True, is_selected=None, validation=False
    )
    assert attempt(trail, other) is None


def test_delivered_event_in_no_file_breaks_the_proof() -> None:
    trail = six_hours()
    found = prove(trail, question(trail, trail.logs()[0], event_id="removed"))
    assert (found.state, found.key) == (ProofState.BROKEN, None)
    assert "although it was delivered" in found.message


def test_number_of_read_files_is_limited_and_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    trail = six_hours()
    monkeypatch.setattr(event_proof, "MAX_LOGS", 5)
    reader = MemoryReader(trail.objects)
    found = prove(trail, question(trail, trail.logs()[0], event_id="removed"), reader)
    assert found.state is ProofState.UNKNOWN
    assert "none of the first 5 log files" in found.message
    assert len([key for key in reader.opened if "/CloudTrail/" in key]) == 5


def test_an_unreadable_bucket_leaves_the_answer_open() -> None:
    class Refusing(MemoryReader):
        def open(self, bucket: str, key: str) -> Body:
            raise ObjectStoreError("AccessDenied", key)

    trail = six_hours()
    asked = question(trail, trail.logs()[0])
    found = prove(trail, asked, Refusing(trail.objects))
    assert found.state is ProofState.UNKNOWN
    assert "AccessDenied" in found.message
    unsure = msgspec.structs.replace(asked, is_selected=None)
    assert attempt(trail, unsure, Refusing(trail.objects)) is None


def listing(trail: Trail, log: str) -> str:
    """Returns the digest that lists a log file."""
    return next(
        key
        for key in trail.digests()
        if any(each["s3Object"] == log for each in json.loads(trail.content(key))["logFiles"])
    )


@pytest.mark.slow
@pytest.mark.parametrize("tamper", TAMPERED, ids=lambda tamper: tamper.__name__)
@pytest.mark.parametrize("is_selected", [True, None], ids=["logging", "stopped since"])
def test_validation_findings_break_the_proof_of_their_events(
    tamper: Tamper, is_selected: bool | None
) -> None:
    trail = six_hours()
    before = dict(trail.bucket)
    asked = {log: question(trail, log, is_selected=is_selected) for log in trail.logs()}
    digests = {log: listing(trail, log) for log in trail.logs()}
    tamper(trail)
    assert trail.validate().code == 1
    for log, each in asked.items():
        found = attempt(trail, each)
        touched = [k for k in (log, digests[log]) if trail.bucket.get(k) != before[k]]
        expected = ProofState.BROKEN if touched else ProofState.PROVEN
        assert found is not None, (log, touched)
        assert found.state is expected, (log, touched, found)


def test_log_file_deleted_with_its_digest_is_missed() -> None:
    trail = stopped_and_started()
    log = trail.logs()[3]
    digest = listing(trail, log)
    asked = question(trail, log, is_selected=None, validation=True)
    del trail.bucket[log], trail.bucket[digest]
    found = prove(trail, asked)
    assert (found.state, found.fault) == (ProofState.BROKEN, digest)


@pytest.mark.parametrize("is_selected", [True, None])
def test_listing_digest_and_all_later_ones_are_missed(is_selected: bool | None) -> None:
    trail = six_hours()
    for log in trail.logs():
        left = trail.copy()
        asked = question(left, log, is_selected=is_selected)
        first = left.digests().index(listing(left, log))
        for key in left.digests()[first:]:
            del left.bucket[key]
        assert prove(left, asked).state is ProofState.BROKEN, log
        del left.bucket[log]
        assert prove(left, asked).state is ProofState.BROKEN, log
