"""Files of event history deleted from S3 are named, and uploaded again."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.app.cluster.member_files import SharedFileCheck
from tests.app.cluster.test_shared_files import ALL, BUCKET, Servers, a_journal
from tests.factories import some_new_entries
from tests.fakes import asynchronous

pytestmark = pytest.mark.slow


def a_check(
    cluster: Servers, name: str, source: SqliteJournalSource, is_worker: bool = False
) -> SharedFileCheck:
    files = cluster.server(name)
    return SharedFileCheck(files, cluster.control, source, cluster.clock, lambda: is_worker)


async def a_cluster(folder: Path) -> tuple[Servers, SqliteJournal, SqliteJournalSource]:
    """Returns a cluster whose worker has uploaded two files."""
    cluster = Servers(folder)
    journal, source = a_journal(folder)
    await journal.append(some_new_entries(20))
    await cluster.server("worker").publish(journal, source, ALL)
    return cluster, journal, source


def keys(cluster: Servers) -> list[str]:
    return sorted(cluster.objects.disk.objects[BUCKET])


@asynchronous
async def test_worker_seals_missing_file_again(tmp_path: Path) -> None:
    cluster, journal, source = await a_cluster(tmp_path)
    worker = a_check(cluster, "worker", source, is_worker=True)
    await worker.check()
    assert worker.problems == []
    ((first, *_),) = [[key for key in keys(cluster) if key.endswith(".duckdb")]]
    del cluster.objects.disk.objects[BUCKET][first]
    await worker.check()
    assert first not in keys(cluster), "it was compared a moment ago"
    cluster.clock.advance(timedelta(hours=1).total_seconds())
    await worker.check()
    assert worker.problems == []
    names = {file.name for file in await cluster.server("worker").files()}
    assert names <= {key.removeprefix("events/") for key in keys(cluster)}
    await cluster.server("new").fetch()
    assert cluster.ranges("new") == [(1, 10, False), (11, 20, False)]
    await journal.close()


@asynchronous
async def test_missing_file_is_named_until_restored(tmp_path: Path) -> None:
    cluster, journal, _ = await a_cluster(tmp_path)
    await journal.close()
    empty = tmp_path / "empty"
    empty.mkdir()
    trimmed = Trimmed(empty)
    await cluster.server("other").fetch()
    stored = cluster.objects.disk.objects[BUCKET]
    name = next(file.name for file in await cluster.server("worker").files())
    del stored[f"events/{name}"]
    worker = a_check(cluster, "worker", trimmed, is_worker=True)
    await worker.check()
    third = a_check(cluster, "third", trimmed)
    await third.check()
    for check in (worker, third):
        assert str(name) in check.problems[0]
    await a_check(cluster, "other", trimmed).check()
    assert f"events/{name}" in stored
    await worker.check()
    await third.check()
    assert worker.problems == third.problems == []


class Trimmed(SqliteJournalSource):
    """A journal whose first entries, up to the files' last, are trimmed."""

    def first_position(self) -> int:
        """Returns a position after the files'."""
        return 1_000
