"""Any change of a delivered trail is found and named (guarantees L9 and L10)."""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import json
import re
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.core.errors import ObjectStoreError
from opentrail.trails.destinations import CONDITION_CHECK
from opentrail.validation.bucket_objects import Inventory, Wanted
from opentrail.validation.buckets import Buckets
from opentrail.validation.public_keys import PublicKeys
from opentrail.validation.report import FindingKind, Report, Status
from opentrail.validation.run import Task, Validation
from tests.fakes import StoredObject, run, utc
from tests.trails.world import BUCKET, World
from tests.validation.delivered import (
    FAR,
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

Tamper = Callable[[Trail], list[str]]


@cache
def attackers_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def attackers_fingerprint() -> str:
    der = (
        attackers_key()
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.PKCS1)
    )
    return hashlib.md5(der, usedforsecurity=False).hexdigest()


def sign_anew(trail: Trail, key: str) -> None:
    """Signs a changed digest with an untrusted key."""
    document = json.loads(trail.content(key))
    text = "\n".join(
        [
            document["digestEndTime"],
            f"{document['digestS3Bucket']}/{document['digestS3Object']}",
            hashlib.sha256(trail.content(key)).hexdigest(),
            document["previousDigestSignature"] or "null",
        ]
    )
    signature = attackers_key().sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
    trail.put(key, trail.content(key), signature=signature.hex())


# Log files


def alter_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    trail.put(key, trail.content(key).replace(b"Mary", b"Mara", 1))
    return [key]


def delete_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    del trail.bucket[key]
    return [key]


def rename_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    other = f"{key[:-24]}AAAABBBBCCCCDDDD.json.gz"
    trail.bucket[other] = trail.bucket.pop(key)
    return [key, other]


def swap_two_logs(trail: Trail) -> list[str]:
    one, two = trail.logs()[2], trail.logs()[9]
    trail.bucket[one], trail.bucket[two] = trail.bucket[two], trail.bucket[one]
    return [one, two]


def truncate_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    trail.bucket[key] = replace(trail.bucket[key], content=trail.bucket[key].content[:-20])
    return [key]


def empty_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    trail.bucket[key] = replace(trail.bucket[key], content=b"")
    return [key]


def reorder_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    records = json.loads(trail.content(key))["Records"]
    assert len(records) > 1
    turned = json.dumps({"Records": records[::-1]}, separators=(",", ":"), ensure_ascii=False)
    assert len(turned.encode()) == len(trail.content(key))
    trail.put(key, turned.encode())
    return [key]


def extend_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    document = json.loads(trail.content(key))
    document["Records"].append(document["Records"][0])
    trail.put(key, json.dumps(document, separators=(",", ":")).encode())
    return [key]


def append_to_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    stored = trail.bucket[key]
    trail.bucket[key] = replace(stored, content=stored.content + b"more")
    return [key]


def append_a_gzip_member_to_a_log(trail: Trail) -> list[str]:
    """`gunzip` returns both members; `aws cloudtrail validate-logs` reads only the first."""
    key = trail.logs()[4]
    stored = trail.bucket[key]
    trail.bucket[key] = replace(stored, content=stored.content + gzip.compress(b"more"))
    return [key]


def add_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    other = f"{key[:-24]}AAAABBBBCCCCDDDD.json.gz"
    trail.put(other, b'{"Records":[]}', like=key)
    return [other]


def add_a_log_of_another_day_to_a_folder(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    other = key.replace("_20200101T", "_20200102T")
    trail.put(other, b'{"Records":[]}', like=key)
    return [other]


def add_a_file_of_another_name(trail: Trail) -> list[str]:
    other = trail.logs()[4].replace(".json.gz", ".json")
    trail.put(other, b'{"Records":[]}', like=trail.logs()[4])
    return [other]


def move_a_log(trail: Trail) -> list[str]:
    key = trail.logs()[4]
    other = key.replace("/2020/01/01/", "/2020/01/02/")
    trail.bucket[other] = trail.bucket.pop(key)
    return [key, other]


# Digests


def alter_a_digest(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, oldestEventTime="2020-01-01T00:00:00Z")
    return [key]


def unlist_a_log(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, logFiles=json.loads(trail.content(key))["logFiles"][1:])
    return [key]


def delete_a_digest(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    del trail.bucket[key]
    return [key]


def delete_two_neighbouring_digests(trail: Trail) -> list[str]:
    older, newer = trail.digests()[2:4]
    del trail.bucket[older], trail.bucket[newer]
    return [newer, "2020-01-01T11:00:00Z to 2020-01-01T13:00:00Z"]


def delete_the_newest_digest(trail: Trail) -> list[str]:
    key = trail.digests()[-1]
    del trail.bucket[key]
    return [key, "2020-01-01T14:00:00Z to 2020-01-01T15:00:00Z"]


def delete_the_oldest_digest(trail: Trail) -> list[str]:
    key = trail.digests()[0]
    del trail.bucket[key]
    return [key]


def delete_all_digests(trail: Trail) -> list[str]:
    first, *_, last = trail.digests()
    for key in trail.digests():
        del trail.bucket[key]
    return [first, last]


def delete_everything(trail: Trail) -> list[str]:
    first, *_, last = trail.digests()
    trail.bucket.clear()
    return [first, last]


def cut_the_tail(trail: Trail) -> list[str]:
    keys = trail.digests()[3:]
    for key in [*keys, *trail.logs()[9:]]:
        del trail.bucket[key]
    return [keys[-1], "2020-01-01T12:00:00Z to 2020-01-01T15:00:00Z"]


def cut_the_head(trail: Trail) -> list[str]:
    keys = trail.digests()[:3]
    for key in [*keys, *trail.logs()[:9]]:
        del trail.bucket[key]
    return [keys[0], keys[-1]]


def replay_an_older_digest(trail: Trail) -> list[str]:
    older, newer = trail.digests()[2:4]
    trail.bucket[newer] = trail.bucket[older]
    return [newer]


def replay_a_digest_as_the_newest(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    other = key.replace("T120000Z", "T160000Z")
    assert other not in trail.bucket
    trail.bucket[other] = trail.bucket[key]
    return [other]


def move_a_digest(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    other = key.replace("/2020/01/01/", "/2020/01/02/")
    trail.bucket[other] = trail.bucket.pop(key)
    return [key, other]


def move_a_digest_to_another_prefix(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.bucket[f"team/{key}"] = trail.bucket.pop(key)
    return [key, f"team/{key}"]


def put_a_foreign_digest(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.bucket[key] = trail.bucket[trail.digests(FAR)[2]]
    return [key]


def sign_a_digest_anew(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, logFiles=[])
    sign_anew(trail, key)
    return [key]


def sign_a_digest_anew_naming_the_own_key(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, logFiles=[], digestPublicKeyFingerprint=attackers_fingerprint())
    sign_anew(trail, key)
    return [key]


def change_the_signature(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    signature = trail.bucket[key].metadata["signature"]
    trail.put(
        key, trail.content(key), signature=f"{signature[:-1]}{'0' if signature[-1] != '0' else '1'}"
    )
    return [key]


def take_the_signature_of_another(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    other = trail.bucket[trail.digests()[3]].metadata["signature"]
    trail.put(key, trail.content(key), signature=other)
    return [key]


def write_no_hex_as_signature(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.put(key, trail.content(key), signature="valid")
    return [key]


def remove_the_signature(trail: Trail) -> list[str]:
    key = trail.digests()[-1]
    trail.bucket[key] = replace(trail.bucket[key], metadata={})
    return [key]


def change_the_algorithm_in_the_metadata(trail: Trail) -> list[str]:
    """`aws cloudtrail validate-logs` does not read it."""
    key = trail.digests()[2]
    trail.put(key, trail.content(key), **{"signature-algorithm": "none"})
    return [key]


def change_the_algorithm(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, digestSignatureAlgorithm="none")
    return [key]


def change_the_previous_hash(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, previousDigestHashValue="0" * 64)
    return [key]


def change_the_start_time(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, digestStartTime="2020-01-01T10:59:59Z")
    return [key]


def change_the_end_time(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.edit(key, digestEndTime="2020-01-01T11:59:59Z")
    return [key]


def fake_a_chain_start(trail: Trail) -> list[str]:
    older, key = trail.digests()[2:4]
    nothing = dict.fromkeys(k for k in json.loads(trail.content(key)) if k.startswith("previous"))
    trail.edit(key, **nothing)
    del trail.bucket[older]
    return [key]


def fake_a_chain_start_and_sign_it(trail: Trail) -> list[str]:
    keys = fake_a_chain_start(trail)
    sign_anew(trail, keys[0])
    return keys


def damage_a_digest(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.bucket[key] = replace(trail.bucket[key], content=b"no gzip")
    return [key]


def write_a_digest_that_is_no_object(trail: Trail) -> list[str]:
    key = trail.digests()[2]
    trail.put(key, b"[]")
    return [key]


TAMPERED: list[Tamper] = [
    alter_a_log,
    delete_a_log,
    rename_a_log,
    swap_two_logs,
    truncate_a_log,
    empty_a_log,
    reorder_a_log,
    extend_a_log,
    append_to_a_log,
    append_a_gzip_member_to_a_log,
    add_a_log,
    add_a_log_of_another_day_to_a_folder,
    add_a_file_of_another_name,
    move_a_log,
    alter_a_digest,
    unlist_a_log,
    delete_a_digest,
    delete_two_neighbouring_digests,
    delete_the_newest_digest,
    delete_the_oldest_digest,
    delete_all_digests,
    delete_everything,
    cut_the_tail,
    cut_the_head,
    replay_an_older_digest,
    replay_a_digest_as_the_newest,
    move_a_digest,
    move_a_digest_to_another_prefix,
    put_a_foreign_digest,
    sign_a_digest_anew,
    sign_a_digest_anew_naming_the_own_key,
    change_the_signature,
    take_the_signature_of_another,
    write_no_hex_as_signature,
    remove_the_signature,
    change_the_algorithm_in_the_metadata,
    change_the_algorithm,
    change_the_previous_hash,
    change_the_start_time,
    change_the_end_time,
    fake_a_chain_start,
    fake_a_chain_start_and_sign_it,
    damage_a_digest,
    write_a_digest_that_is_no_object,
]
#: Only found with a checkpoint.
AT_THE_ENDS = (delete_the_newest_digest, cut_the_tail, delete_everything)


def names(tampers: list[Tamper]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("tamper", tampers, ids=lambda tamper: tamper.__name__)


@names(TAMPERED)
def test_tampering_with_a_trail_is_found(tamper: Tamper) -> None:
    trail = six_hours()
    named = tamper(trail)
    outcome = trail.validate()
    assert outcome.code == 1, outcome.text()
    for name in named:
        assert any(name in finding.line() for finding in outcome.of(Status.BAD)), (
            f"{name}\n{outcome.text()}"
        )


@names([tamper for tamper in TAMPERED if tamper not in AT_THE_ENDS])
def test_tampering_is_found_without_prior_state(tamper: Tamper) -> None:
    trail = six_hours()
    tamper(trail)
    assert trail.validate(known=[]).code == 1


@names(list(AT_THE_ENDS))
def test_truncated_data_needs_known_positions(tamper: Tamper) -> None:
    trail = six_hours()
    tamper(trail)
    assert trail.validate(known=[]).code in (1, 5)


@names(TAMPERED)
def test_untouched_objects_are_not_blamed(tamper: Tamper) -> None:
    trail = six_hours()
    before = dict(trail.bucket)
    tamper(trail)
    untouched = {key for key in before if trail.bucket.get(key) == before[key]}
    outcome = trail.validate()
    blamed = {
        f.name for f in outcome.of(Status.BAD) if f.kind in (FindingKind.DIGEST, FindingKind.LOG)
    }
    assert not {key for key in untouched if f"s3://{BUCKET}/{key}" in blamed}, outcome.text()


def test_log_file_deleted_with_digest_leaves_gap() -> None:
    trail = six_hours()
    before, digest = trail.digests()[1:3]
    listed = json.loads(trail.content(digest))
    for key in [digest, *(each["s3Object"] for each in listed["logFiles"])]:
        del trail.bucket[key]
    outcome = trail.validate()
    assert outcome.code == 1
    assert f"s3://{BUCKET}/{digest}" in outcome.names(Status.BAD)
    (gap,) = [f for f in outcome.of(Status.BAD) if f.kind is FindingKind.GAP]
    assert (gap.start, gap.end) == (time_of(before), time_of(digest))


def test_log_file_deleted_before_its_digest_is_named() -> None:
    async def story() -> tuple[Trail, str]:
        world = World()
        await world.add(validation=True)
        await world.start_logging()
        await hours(world, 2, ("us-east-1",))
        gone = world.log_keys()[-1]
        del world.buckets.objects[BUCKET][gone]
        await hours(world, 2, ("us-east-1",))
        return await delivered(world), gone

    trail, gone = run(story())
    outcome = trail.validate()
    assert outcome.code == 1
    assert outcome.names(Status.BAD) == {f"s3://{BUCKET}/{gone}"}


def test_an_untouched_trail_is_valid() -> None:
    trail = six_hours()
    outcome = trail.validate()
    assert outcome.code == 0, outcome.text()
    assert outcome.report.findings == []
    counts = [
        (c.good_digests, c.digests, c.good_logs, c.logs) for c in outcome.report.counts.values()
    ]
    assert counts == [(6, 6, 18, 18), (6, 6, 18, 18)]


def test_a_trail_with_recompressed_objects_is_valid() -> None:
    trail = six_hours()
    for key in [*trail.logs(), *trail.digests(), *trail.logs(FAR), *trail.digests(FAR)]:
        content = trail.content(key)
        halves = content[: len(content) // 2], content[len(content) // 2 :]
        packed = b"".join(gzip.compress(half, compresslevel=1) for half in halves)
        assert packed != trail.bucket[key].content
        trail.bucket[key] = replace(trail.bucket[key], content=packed)
    assert trail.validate().code == 0


def test_folder_markers_are_not_log_files() -> None:
    trail = six_hours()
    marker = StoredObject(b"", {}, "application/json", None)
    trail.bucket["AWSLogs/123456789012/CloudTrail/"] = marker
    trail.bucket["AWSLogs/123456789012/CloudTrail-Digest/"] = marker
    trail.bucket["notes.txt"] = marker
    trail.bucket[f"AWSLogs/123456789012/{CONDITION_CHECK}"] = marker
    assert trail.validate().code == 0


# Knowledge of the ends


def test_without_knowledge_the_ends_cannot_be_decided() -> None:
    outcome = six_hours().validate(known=[])
    assert outcome.code == 5
    reasons = " ".join(finding.reason for finding in outcome.of(Status.UNKNOWN))
    assert "before 2020-01-01T09:00:00Z" in reasons
    assert "after 2020-01-01T15:00:00Z" in reasons


def test_next_run_uses_learned_state() -> None:
    trail = six_hours()
    learned = trail.validate(known=[]).known
    assert trail.validate(known=learned).code == 0
    named = cut_the_tail(trail)
    outcome = trail.validate(known=learned)
    assert outcome.code == 1
    assert named[0] in outcome.text()


def test_a_vanished_chain_is_known_by_its_start() -> None:
    trail = stopped_and_started()
    learned = trail.validate(known=[]).known
    first = trail.digests()[0]
    for region, count in (("us-east-1", 10), (FAR, 9)):
        for key in [*trail.digests(region)[:4], *trail.logs(region)[:count]]:
            del trail.bucket[key]
    left = trail.digests()
    assert json.loads(trail.content(left[0]))["previousDigestS3Object"] is None
    assert trail.validate(known=[]).code == 5
    for known in (learned, trail.server_knows()):
        outcome = trail.validate(known=known)
        assert outcome.code == 1
        assert first in outcome.text()


def test_checkpoint_does_not_move_past_an_unread_part() -> None:
    trail = six_hours()
    early = trail.validate(known=[], until=utc("2020-01-01T10:30:00")).known
    late = trail.validate(known=early, since=utc("2020-01-01T13:30:00")).known
    assert late == early
    whole = trail.validate(known=early).known
    assert all(k.newest.key.endswith("T150000Z.json.gz") for k in whole)


def test_a_server_with_more_knowledge_is_believed() -> None:
    trail = six_hours()
    newest = trail.digests()[-1]
    for known in trail.known:
        changed = {**known, "newest": {**known["newest"], "sha256": "0" * 64}}
        outcome = replace(trail, known=[changed]).validate()
        assert outcome.code == 1
    assert newest in outcome.text() or trail.digests(FAR)[-1] in outcome.text()


# Chains that end


def test_restarted_logging_is_valid_and_noted() -> None:
    outcome = stopped_and_started().validate()
    assert outcome.code == 0, outcome.text()
    notes = outcome.of(Status.NOTE)
    assert len(notes) == 2
    assert all("StopLogging at 2020-01-01T12:00:00Z" in note.reason for note in notes)


def test_a_cut_chain_is_not_a_stopped_one() -> None:
    trail = stopped_and_started()
    last = trail.digests()[3]
    listed = json.loads(trail.content(last))["logFiles"]
    for key in [last, *(log["s3Object"] for log in listed)]:
        del trail.bucket[key]
    outcome = trail.validate()
    assert outcome.code == 1
    gaps = [f for f in outcome.of(Status.BAD) if f.kind is FindingKind.GAP]
    assert gaps
    assert all("no event shows that logging stopped" in gap.reason for gap in gaps)


def test_only_the_home_region_shows_whether_logging_stopped() -> None:
    trail = stopped_and_started()
    outcome = trail.validate(wanted=Wanted(regions=[FAR]))
    assert outcome.code == 5
    assert "is in log files of us-east-1" in outcome.text()


def test_log_planted_while_logging_was_off_is_named() -> None:
    trail = stopped_and_started()
    other = trail.logs()[0].replace(trail.logs()[0][-30:], "1300Z_AAAABBBBCCCCDDDD.json.gz")
    trail.put(other, b'{"Records":[]}', like=trail.logs()[0])
    outcome = trail.validate()
    assert outcome.code == 1
    assert outcome.reason(other) == "no digest file lists it"


@cache
def _stopped() -> Trail:
    async def story() -> Trail:
        world = World()
        await world.add(multi_region=True, validation=True)
        await world.start_logging()
        await hours(world, 3)
        await world.stop_logging()
        await world.deliver()
        return await delivered(world)

    return run(story())


def planted(trail: Trail, region: str, minute: str, *records: dict[str, Any]) -> str:
    """Puts a log file of a minute of 2020-01-01 into a trail's bucket, and returns its key."""
    like = trail.logs()[0]
    head, _, _ = like.rpartition("/")
    name = f"123456789012_CloudTrail_{region}_20200101T{minute}Z_AAAABBBBCCCCDDDD.json.gz"
    key = f"{head}/{name}".replace("/us-east-1/", f"/{region}/")
    trail.put(key, json.dumps({"Records": records}).encode(), like=like)
    return key


@pytest.mark.parametrize("region", ["us-east-1", FAR])
@pytest.mark.parametrize("minute", ["1201", "1330", "1900"])
def test_log_planted_after_logging_was_stopped_is_named(region: str, minute: str) -> None:
    trail = _stopped().copy()
    assert trail.validate().code == 0
    key = planted(trail, region, minute)
    outcome = trail.validate()
    assert outcome.code == 1
    assert outcome.reason(key) == "no digest file lists it"


@pytest.mark.parametrize("stamp", ["0001/01/01", "9999/12/31"])
def test_files_planted_at_the_calendars_ends_are_named(stamp: str) -> None:
    trail = six_hours()
    planted_keys = []
    for like, time in ((trail.logs()[0], "T2359Z"), (trail.digests()[0], "T235959Z")):
        old_time = re.search(r"_20200101(T[0-9]+Z)", like)
        assert old_time is not None
        key = like.replace("2020/01/01", stamp).replace(
            f"20200101{old_time[1]}", f"{stamp.replace('/', '')}{time}"
        )
        trail.put(key, trail.content(like), like=like)
        planted_keys.append(key)
    keys = PublicKeys(ask=lambda *_: [key.as_json() for key in trail.public_keys()])
    outcome = trail.validate(keys=keys, now=utc("2020-01-01T15:00:00"))
    assert outcome.code == 1
    for key in planted_keys:
        assert "does not have the name" in outcome.reason(key)


def test_unsigned_digest_of_the_year_9999_is_invalid(
    tmp_path: Path,
) -> None:
    trail = six_hours()
    key = trail.digests()[-1]
    trail.edit(key, digestStartTime="0001-01-01T00:00:00Z", digestEndTime="9999-12-31T23:59:59Z")
    outcome = trail.validate_copy(trail.write(tmp_path))
    assert outcome.code == 1
    assert "invalid format: digestStartTime" in outcome.reason(key)


def test_restarted_trails_logs_wait_for_its_first_digest() -> None:
    async def story() -> Trail:
        world = World()
        await world.add(multi_region=True, validation=True)
        await world.start_logging()
        await hours(world, 3)
        await world.stop_logging()
        await world.deliver()
        world.clock.advance(600)
        await world.start_logging()
        for region in ("us-east-1", FAR):
            await world.event(2, awsRegion=region)
        await world.deliver()
        return await delivered(world)

    outcome = run(story()).validate()
    assert outcome.code == 0, outcome.text()
    assert outcome.report.pending_logs == 2


def test_log_planted_in_an_empty_region_is_named() -> None:
    trail = six_hours()
    keys = [planted(trail, "ap-south-1", minute) for minute in ("0000", "1200", "2359")]
    outcome = trail.validate()
    assert outcome.code == 1
    assert all(outcome.reason(key) == "no digest file covers its Region" for key in keys)


def test_logs_without_digests_are_reported_together() -> None:
    trail = six_hours()
    for minute in range(60):
        planted(trail, "ap-south-1", f"12{minute:02d}")
    outcome = trail.validate()
    assert outcome.code == 1
    assert "no digest file covers 60 log files" in outcome.text()


async def _validation_off_and_on() -> Trail:
    world = World()
    await world.add(validation=True)
    await world.start_logging()
    await hours(world, 2, ("us-east-1",))
    await world.update(validation=False)
    await hours(world, 2, ("us-east-1",))
    await world.update(validation=True)
    await hours(world, 2, ("us-east-1",))
    return await delivered(world)


def test_log_files_without_validation_are_reported_as_unproven() -> None:
    outcome = run(_validation_off_and_on()).validate()
    assert outcome.code == 5, outcome.text()
    assert "came while validation was off" in outcome.text()
    assert "UpdateTrail" in outcome.text()


def test_log_files_before_the_first_digest_are_unproven() -> None:
    async def story() -> Trail:
        world = World()
        await world.add()
        await world.start_logging()
        await hours(world, 1, ("us-east-1",))
        await world.update(validation=True)
        await hours(world, 2, ("us-east-1",))
        return await delivered(world)

    trail = run(story())
    outcome = trail.validate()
    assert outcome.code == 5, outcome.text()
    assert "came before the first digest file" in outcome.text()
    assert trail.validate(since=utc("2020-01-01T10:30:00")).code == 0


def test_log_planted_at_the_start_is_not_older() -> None:
    trail = six_hours()
    key = trail.logs()[0]
    other = f"{key[:-24]}AAAABBBBCCCCDDDD.json.gz"
    old = b'{"Records":[{"eventTime":"2020-01-01T08:00:00Z"}]}'
    trail.put(other, old, like=key)
    assert trail.validate().reason(other) == "no digest file lists it"


def test_a_trail_continues_in_another_bucket() -> None:
    async def story() -> Trail:
        world = World()
        await world.add(validation=True)
        await world.start_logging()
        await hours(world, 2, ("us-east-1",))
        await world.update(bucket="other-bucket", prefix="team")
        await hours(world, 2, ("us-east-1",))
        return await delivered(world)

    trail = run(story())
    buckets = Buckets(lambda: MemoryReader(trail.objects))

    def validated() -> Report:
        inventory, report = Inventory(Wanted()), Report()
        inventory.add(buckets.under("other-bucket", ""), lambda _: None)
        task = Task(RsaVerifier(), PublicKeys(trail.public_keys()), known=trail.server_knows())
        Validation(inventory, buckets, task, report).run()
        return report

    report = validated()
    assert report.exit_code == 0, report.summary()
    (count,) = report.counts.values()
    assert (count.good_digests, count.good_logs) == (4, 13)
    del trail.bucket[trail.logs()[0]]
    assert validated().exit_code == 1


# Ranges


def test_only_files_in_range_are_validated() -> None:
    trail = six_hours()
    since, until = utc("2020-01-01T11:30:00"), utc("2020-01-01T12:30:00")
    damaged = [trail.logs()[0], trail.logs()[-1], trail.digests()[0], trail.digests()[-1]]
    for key in damaged:
        del trail.bucket[key]
    outcome = trail.validate(
        known=[], since=since, until=until, wanted=Wanted(regions=["us-east-1"])
    )
    assert outcome.code == 0, outcome.text()
    (count,) = outcome.report.counts.values()
    assert (count.good_digests, count.good_logs) == (2, 6)
    del trail.bucket[trail.logs()[7]]
    assert trail.validate(known=[], since=since, until=until).code == 1


def test_a_digest_before_the_range_is_not_missed() -> None:
    trail = six_hours()
    del trail.bucket[trail.digests()[1]]
    assert trail.validate(known=trail.server_knows(), since=utc("2020-01-01T11:00:00")).code == 0
    assert trail.validate(known=trail.server_knows(), since=utc("2020-01-01T10:59:59")).code == 1


@cache
def _ten_hours() -> Trail:
    return after_hours(10, validation=True)


def _with_hole(first: int, last: int) -> tuple[Trail, dict[str, datetime]]:
    """Returns a trail without some of its digests and their log files, and a period among these."""
    trail = _ten_hours().copy()
    digests = trail.digests()
    removed = [json.loads(trail.content(key)) for key in digests[first : last + 1]]
    for key, digest in zip(digests[first : last + 1], removed, strict=True):
        del trail.bucket[key]
        for log in digest["logFiles"]:
            del trail.bucket[log["s3Object"]]
    start, end = (
        utc(text.removesuffix("Z"))
        for text in (removed[0]["digestStartTime"], removed[-1]["digestEndTime"])
    )
    quarter = (end - start) / 4
    return trail, {"since": start + quarter, "until": end - quarter}


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10))
def test_no_hole_is_valid_in_any_period(first: int) -> None:
    wanted = Wanted(regions=["us-east-1"])
    for last in range(first, 10):
        trail, inside = _with_hole(first, last)
        wider = {**inside, "since": inside["since"] - timedelta(hours=1)}
        periods: list[dict[str, Any]] = [{}, inside, wider]
        for period in periods:
            outcome = trail.validate(wanted=wanted, **period)
            assert outcome.code == 1, f"{first} to {last}, {period}\n{outcome.text()}"
            alone = trail.validate(known=[], wanted=wanted, **period)
            decided = 1 if last < 9 else 5
            assert alone.code == decided, f"{first} to {last}, {period}\n{alone.text()}"


def test_period_before_a_trail_cannot_be_decided() -> None:
    since, until = utc("2019-06-01T00:00:00"), utc("2019-06-02T00:00:00")
    trail = _ten_hours()
    for known in (trail.server_knows(), []):
        outcome = trail.validate(known, since=since, until=until)
        assert outcome.code == 5, outcome.text()
        assert "none in this period" in outcome.text()


def test_late_log_file_is_in_a_later_digest() -> None:
    async def story() -> Trail:
        world = World()
        await world.add(validation=True)
        await world.start_logging()
        await hours(world, 2, ("us-east-1",))
        world.clock.advance(600)
        await world.event(1)
        world.objects.down = "SlowDown"
        with pytest.raises(ObjectStoreError):
            await world.deliver()
        world.clock.advance(7200)
        world.objects.down = None
        await world.deliver()
        await hours(world, 2, ("us-east-1",))
        return await delivered(world)

    trail = run(story())
    assert trail.validate().code == 0
    outcome = trail.validate(
        known=[], since=utc("2020-01-01T10:00:00"), until=utc("2020-01-01T11:30:00")
    )
    assert outcome.code == 0, outcome.text()


# Several trails


async def _two_trails() -> Trail:
    world = World()
    await world.add(validation=True)
    await world.add(uid="other", name="other_trail", validation=True)
    for name in ("my-trail", "other_trail"):
        await world.start_logging(name)
    for _ in range(2):
        for _ in range(3):
            world.clock.advance(1200)
            await world.event(2)
            await world.deliver()
            await world.deliver(uid="other")
    return await delivered(world)


def test_digests_distinguish_trails_in_one_bucket() -> None:
    trail = run(_two_trails())
    outcome = trail.validate()
    assert outcome.code == 0, outcome.text()
    assert [count.chain.trail for count in outcome.report.counts.values()] == [
        "my-trail",
        "other_trail",
    ]
    one = trail.validate(wanted=Wanted(trails=["my-trail"]))
    assert one.code == 0, one.text()
    assert [count.chain.trail for count in one.report.counts.values()] == ["my-trail"]


def test_files_of_other_trails_stay_undecided() -> None:
    trail = run(_two_trails())
    others = [key for key in trail.digests() if "other_trail" in key]
    trail.edit(others[0], logFiles=[])
    outcome = trail.validate(wanted=Wanted(trails=["my-trail"]))
    assert outcome.code == 5
    assert "may be of this trail" in outcome.text()


# Failing stores, missing keys, passing time


class Refusing(MemoryReader):
    """May list everything and read nothing of a Region."""

    def open(self, bucket: str, key: str) -> Body:
        if f"/{FAR}/" in key:
            raise ObjectStoreError("AccessDenied", key)
        return super().open(bucket, key)


def test_unreadable_objects_cannot_be_decided() -> None:
    trail = six_hours()
    buckets = Buckets(lambda: Refusing(trail.objects))
    inventory, report = Inventory(Wanted()), Report()
    inventory.add(buckets.under(BUCKET, ""), lambda _: None)
    task = Task(RsaVerifier(), PublicKeys(trail.public_keys()), known=[])
    Validation(inventory, buckets, task, report).run()
    reasons = " ".join(f.reason for f in report.findings)
    assert "AccessDenied" in reasons
    assert "digest files of this time cannot be read" in reasons
    assert report.exit_code == 5


def test_digests_of_an_unknown_key_are_invalid() -> None:
    trail = six_hours()
    outcome = trail.validate(keys=PublicKeys())
    assert outcome.code == 1
    assert "no public key of fingerprint" in outcome.text()


def test_a_key_verifies_only_while_it_is_valid() -> None:
    trail = six_hours()
    late = [replace(key, valid_from=utc("2020-01-01T18:00:00")) for key in trail.public_keys()]
    outcome = trail.validate(keys=PublicKeys(late))
    assert outcome.code == 1
    assert "was not valid" in outcome.text()


def test_missing_new_digests_cannot_be_decided() -> None:
    trail = six_hours()
    learned = trail.validate(known=[]).known
    assert trail.validate(known=learned, now=utc("2020-01-01T16:30:00")).code == 0
    outcome = trail.validate(known=learned, now=utc("2020-01-01T20:00:00"))
    assert outcome.code == 5
    assert "no digest file came since" in outcome.text()


def test_log_files_after_the_newest_digest_wait() -> None:
    async def story() -> Trail:
        world = World()
        await world.add(validation=True)
        await world.start_logging()
        await hours(world, 2, ("us-east-1",))
        world.clock.advance(1200)
        await world.event(2)
        await world.deliver()
        return await delivered(world)

    outcome = run(story()).validate()
    assert outcome.code == 0, outcome.text()
    assert outcome.report.pending_logs == 1


def test_late_log_files_reveal_a_cut() -> None:
    trail = six_hours()
    for key in trail.digests()[2:]:
        del trail.bucket[key]
    outcome = trail.validate(known=[])
    assert outcome.code == 1
    assert "no good digest file covers this time" in outcome.text()


def test_empty_record_is_undecided() -> None:
    trail = six_hours()
    trail.bucket.clear()
    outcome = trail.validate(known=[])
    assert outcome.code == 5


# Any change


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_changed_byte_is_ever_valid(data: st.DataObject) -> None:
    trail = six_hours()
    key = data.draw(st.sampled_from(sorted(trail.bucket)))
    stored = trail.bucket[key]
    before = trail.content(key)
    changed = bytearray(stored.content)
    at = data.draw(st.integers(0, len(changed) - 1))
    changed[at] ^= data.draw(st.integers(1, 255))
    trail.bucket[key] = replace(stored, content=bytes(changed))
    is_equal = False
    with contextlib.suppress(OSError, EOFError, ValueError, zlib.error):
        is_equal = trail.content(key) == before
    outcome = trail.validate()
    if is_equal:
        return  # a changed header without effect on the content
    assert outcome.code == 1, (key, at)
    assert key in outcome.text()


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_change_of_objects_is_ever_valid(data: st.DataObject) -> None:
    trail = data.draw(st.sampled_from([six_hours, stopped_and_started]))()
    key = data.draw(st.sampled_from(sorted(trail.bucket)))
    other = data.draw(st.sampled_from(sorted(k for k in trail.bucket if k != key)))
    what = data.draw(st.sampled_from(["remove", "rename", "swap", "copy", "metadata"]))
    if what == "metadata" and not trail.bucket[key].metadata:
        what = "remove"
    if what == "remove":
        del trail.bucket[key]
    elif what == "rename":
        trail.bucket[other] = trail.bucket.pop(key)
    elif what == "swap":
        trail.bucket[key], trail.bucket[other] = trail.bucket[other], trail.bucket[key]
    elif what == "copy":
        trail.bucket[key] = trail.bucket[other]
    else:
        name = data.draw(st.sampled_from(sorted(trail.bucket[key].metadata)))
        metadata = {n: v for n, v in trail.bucket[key].metadata.items() if n != name}
        trail.bucket[key] = replace(trail.bucket[key], metadata=metadata)
    outcome = trail.validate()
    assert outcome.code == 1, (what, key, other)
    assert key in outcome.text() or other in outcome.text()


def test_events_after_clock_step_back_are_not_covered() -> None:
    trail = six_hours().copy()
    planted(trail, "us-east-1", "1430")
    outcome = trail.validate(now=utc("2020-01-01T14:00:00"))
    assert outcome.code == 5
    assert "not yet covered: the newest digest file ends in the future" in outcome.text()
    assert trail.validate(now=utc("2020-01-01T15:30:00")).code == 1
