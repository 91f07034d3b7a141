"""Live temporary keys: memory, lookups and a start with a million of them."""

from __future__ import annotations

import asyncio
import os
import random
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from benchmarks.processes import resident_mb
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.event import Entry
from opentrail.core.identity import Identity, key_for_account, learn
from opentrail.identity.known_identities import Identities

_SESSIONS, _UNPACKED, _LOOKUPS, _BATCH = 1_000_000, 20_000, 200_000, 1_000
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_ACCOUNT, _ROLES = "123456789012", 200


def sessions() -> dict[str, float]:
    """Learns, stores, looks up and reads sessions in one process and a SQLite file."""
    return asyncio.run(_sessions())


async def _sessions() -> dict[str, float]:
    before = resident_mb(os.getpid())
    plain: list[Identity] = [learn(_record(n), {}).identities[0] for n in range(_UNPACKED)]
    plain_kb = (resident_mb(os.getpid()) - before) * 1000 / len(plain)
    plain.clear()
    with tempfile.TemporaryDirectory() as folder:
        control = SqlControl.in_file(Path(folder) / "state.db")
        identities, before = Identities(control), resident_mb(os.getpid())
        learning = storing = 0.0
        for records in _batches():
            started = time.perf_counter()
            for record in records:
                identities.learn(record)
            learned = time.perf_counter()
            await identities.process([_entry(record) for record in records])
            learning += learned - started
            storing += time.perf_counter() - learned
        kb = (resident_mb(os.getpid()) - before) * 1000 / _SESSIONS
        stored_mb = _size_of(Path(folder)) / 1e6
        numbers = random.Random(1).choices(range(_SESSIONS), k=_LOOKUPS)
        keys = [_key(number) for number in numbers]
        started = time.perf_counter()
        for key in keys:
            identities.resolve(key)
        looking_up = time.perf_counter() - started
        unknown = sum(identities.is_stranger(_key(number)) for number in range(_SESSIONS))
        del identities
        again, started = Identities(control), time.perf_counter()
        await again.load()
        loading = time.perf_counter() - started
        lost = sum(again.is_stranger(_key(number)) for number in range(_SESSIONS))
        await control.close()
    return {
        f"unknown of {_SESSIONS:,} live sessions": unknown,
        "unknown after a restart": lost,
        "memory of a session, kB": kb,
        "/ memory of its identity, ratio": kb / plain_kb,
        "us to learn a session": learning / _SESSIONS * 1e6,
        "us to store a session": storing / _SESSIONS * 1e6,
        "us to look up a random session": looking_up / _LOOKUPS * 1e6,
        "s to read all at the start": loading,
        "MB of the control store": stored_mb,
    }


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _batches() -> Iterator[list[dict[str, Any]]]:
    for start in range(0, _SESSIONS, _BATCH):
        yield [_record(number) for number in range(start, start + _BATCH)]


def _key(number: int) -> str:
    return key_for_account(_ACCOUNT, "ASIA", number.to_bytes(4, "big"))


def _record(number: int) -> dict[str, Any]:
    """Returns the record of an AssumeRole call."""
    role, session = f"Role{number % _ROLES}", f"session-{number * 7919:012d}"
    return {
        "eventID": f"{number:08x}-5d1c-4a51-9c3f-{number * 104729:012x}",
        "eventSource": "sts.amazonaws.com",
        "eventName": "AssumeRole",
        "eventTime": "2026-01-01T00:00:00Z",
        "recipientAccountId": _ACCOUNT,
        "requestParameters": {"roleArn": f"arn:aws:iam::{_ACCOUNT}:role/{role}"},
        "responseElements": {
            "credentials": {
                "accessKeyId": _key(number),
                "expiration": "Jan 1, 2026, 1:00:00 AM",
            },
            "assumedRoleUser": {
                "assumedRoleId": f"AROA{number % _ROLES:016d}:{session}",
                "arn": f"arn:aws:sts::{_ACCOUNT}:assumed-role/{role}/{session}",
            },
        },
    }


def _entry(record: dict[str, Any]) -> Entry:
    position = int(record["eventID"][:8], 16) + 1
    return Entry(
        position,
        "recorder",
        _NOW,
        _ACCOUNT,
        "us-east-1",
        "Management",
        record["eventID"],
        b"",
        orjson.dumps(record),
    )


BENCHMARKS = {"A million live sessions": sessions}
