"""Ids of events: fresh, random, in the form of UUIDs, in forks and threads, too."""

import multiprocessing
import uuid
from concurrent.futures import ThreadPoolExecutor

from opentrail.capture.record.event_ids import new_event_id


def test_ids_are_fresh_random_uuids() -> None:
    found = [new_event_id() for _ in range(1_000)]
    assert len(set(found)) == 1_000
    assert all(str(uuid.UUID(one)) == one for one in found)
    assert {uuid.UUID(one).version for one in found} == {4}
    assert {uuid.UUID(one).variant for one in found} == {uuid.RFC_4122}


def test_threads_share_none() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: new_event_id(), range(4_000)))
    assert len(set(found)) == 4_000


def test_a_fork_begins_with_ids_of_its_own() -> None:
    new_event_id()  # so that some are at hand
    with multiprocessing.get_context("fork").Pool(1) as pool:
        theirs = {pool.apply(new_event_id) for _ in range(100)}
    assert not theirs & {new_event_id() for _ in range(100)}
