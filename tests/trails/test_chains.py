"""Digest chains in the control store, including chains from earlier versions."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import Any

import msgspec
from msgspec import structs

from opentrail.core.logfile import DeliveryPlace, PreviousDigest
from opentrail.core.trail import stored_time
from opentrail.ports.control import Put
from opentrail.trails.digest_chains import (
    DigestChain,
    StoredChains,
    UndigestedLog,
    put_chain,
    put_log,
    remove_logs,
)
from tests.factories import ACCOUNT, MOMENT, REGION, a_trail
from tests.fakes import MemoryControl, asynchronous

PLACE = DeliveryPlace("", ACCOUNT, REGION)
DIGEST = {"bucket": "b", "key": "k", "sha256": "aa", "signature": "bb"}
LOG = {"bucket": "b", "key": "l", "sha256": "cc", "oldest": "o", "newest": "n"}


def a_document(**changes: Any) -> dict[str, Any]:
    """Returns a chain in the format before typed documents."""
    pending = {
        "bucket": "b",
        "key": "next",
        "end": "2020-01-01T10:00:00Z",
        "content": base64.b64encode(b"a digest").decode(),
        "signature": "dd",
        "kms_key": "",
        "ends": None,
    }
    return {
        "end": "2020-01-01T09:00:00Z",
        "previous": DIGEST,
        "pending": pending,
        "ended": None,
        "starts": [DIGEST],
        "ends": [],
        "failing_since": stored_time(MOMENT),
        **changes,
    }


def test_chain_of_an_earlier_version_keeps_its_meaning() -> None:
    chain = DigestChain.of(a_document())
    assert chain.end == chain.failing_since == MOMENT
    assert chain.previous == PreviousDigest("b", "k", "aa", "bb")
    assert chain.starts == chain.all_ends == (chain.previous,)
    assert chain.pending is not None
    assert chain.pending.content == b"a digest"
    assert chain.pending.end == MOMENT + timedelta(hours=1)


def test_a_stored_chain_changes_only_a_time_format() -> None:
    document = a_document(later="unknown")
    stored = msgspec.json.decode(msgspec.json.encode(DigestChain.of(document).document()))
    assert stored == {**document, "failing_since": "2020-01-01T09:00:00Z"}
    assert DigestChain.of(stored) == DigestChain.of(document)


def test_first_versions_chain_has_no_starts_or_key() -> None:
    document = a_document()
    for name in ("starts", "ends", "failing_since"):
        del document[name]
    del document["pending"]["kms_key"]
    chain = DigestChain.of(document)
    assert (chain.starts, chain.ends, chain.failing_since) == (None, (), None)
    assert chain.pending is not None
    assert chain.pending.kms_key == ""


@asynchronous
async def test_log_files_wait_for_their_digest() -> None:
    control, trail = MemoryControl(), a_trail()
    chains, other = StoredChains(control), DeliveryPlace("", ACCOUNT, "eu-west-1")
    log = UndigestedLog("b", "l", "cc", "o", "n", delivered=MOMENT)
    await control.apply([put_log(trail, PLACE, 7, log), put_log(trail, other, 8, log)])
    (key,) = logs = await chains.logs(trail, PLACE)
    assert logs == {key: log}
    old = {**LOG, "delivered": stored_time(MOMENT)}
    await control.apply([Put("log", key, old)])
    assert await chains.logs(trail, PLACE) == {key: log}
    await control.apply([Put("log", key, LOG)])
    assert await chains.logs(trail, PLACE) == {key: structs.replace(log, delivered=None)}
    await control.apply(remove_logs([key]))
    assert await chains.logs(trail, PLACE) == {}


@asynchronous
async def test_forgotten_trail_has_neither_chains_nor_log_files() -> None:
    control, trail = MemoryControl(), a_trail()
    chains, chain = StoredChains(control), DigestChain.begin(MOMENT)
    log = UndigestedLog("b", "l", "cc", "o", "n")
    assert await chains.get(trail, PLACE) is None
    await control.apply([put_chain(trail, PLACE, chain), put_log(trail, PLACE, 1, log)])
    assert await chains.get(trail, PLACE) == chain
    assert await chains.all(trail) == [(PLACE, chain)]
    await chains.forget(trail)
    assert control.disk == {}
