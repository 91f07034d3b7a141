"""Losses in `/health`."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from opentrail.adapters.ipc.messages import HistoryState
from opentrail.app.cluster.site import OneServer
from opentrail.app.health import Health
from opentrail.ports.journal import JournalEngine, LostPositions
from opentrail.settings import Settings
from tests.fakes import asynchronous, turns


class Journal:
    """The part of a journal that health uses."""

    def __init__(self, failure: str | None = None, lost: list[LostPositions] | None = None) -> None:
        self.failure, self.lost = failure, lost or []
        self.head, self.backlog_seconds, self.is_checked = 7, 0.0, True
        self.unverified: str | None = None
        self.engine = JournalEngine("sqlite")


class Store:
    """The part of event history that health uses."""

    def __init__(self, is_responding: bool = True, **state: Any) -> None:
        self.is_responding, self.state = is_responding, HistoryState(position=7, **state)
        self.position = 7
        self.failure: str | None = None


def health_of(journal: Any, store: Any) -> Health:
    """Returns the health of a server without a cluster."""
    nothing: Any = None
    return Health(journal, store, OneServer(Settings(), nothing, nothing, nothing))


@pytest.mark.parametrize(
    ("journal", "store", "status", "missing"),
    [
        (Journal(), Store(), "ok", []),
        (Journal("full"), Store(missing=((1, 2),)), "failing", ["positions 1 to 2"]),
        (Journal(), Store(is_responding=False), "degraded", []),
        (Journal(), Store(missing=((3, 3),)), "degraded", ["position 3 of event history"]),
        (Journal(lost=[LostPositions(1, 2, "cut")]), Store(), "degraded", []),
        (
            Journal(lost=[LostPositions(8, None, "cut")]),
            Store(),
            "degraded",
            ["an unknown number of records at position 8"],
        ),
        (
            Journal(),
            Store(lost_imports=((1, 58),)),
            "degraded",
            ["imported events 1 to 58: import them again"],
        ),
    ],
)
def test_a_loss_is_shown_and_described(
    journal: Any, store: Any, status: str, missing: list[str]
) -> None:
    health = health_of(journal, store)
    document = health.document(Settings(), [])
    assert document["status"] == health.status == status
    assert len(document["missing"]) == len(missing)
    for said, expected in zip(document["missing"], missing, strict=True):
        assert said.startswith(expected)
    assert len(document["journal"]["lost"]) == len(journal.lost)


def test_an_irreparable_segment_is_shown() -> None:
    journal = Journal()
    journal.unverified = "journal segment 1.db is damaged and cannot be repaired: disk full"
    health = health_of(journal, Store())
    assert health.status == "degraded"
    assert health.document(Settings(), [])["journal"]["unverified"] == journal.unverified


def test_a_stopped_part_is_named() -> None:
    health = health_of(Journal(), Store())
    health.service_problems = ["Insights does not run: it ended"]
    assert health.status == "degraded"
    assert health.document(Settings(), [])["serviceProblems"] == health.service_problems


def test_a_trail_that_fails_to_deliver_is_named() -> None:
    health = health_of(Journal(), Store())
    health.trail_problems = [{"trail": "arn", "problem": "digest files cannot be written"}]
    assert health.status == "degraded"
    assert health.document(Settings(), [])["trailProblems"] == health.trail_problems


def test_a_missing_signing_key_is_named() -> None:
    health = health_of(Journal(), Store())
    health.key_problems = ["signing key signing-2026-01-01T000000Z.pem is missing"]
    assert health.status == "degraded"
    assert health.document(Settings(), [])["keyProblems"] == health.key_problems


def test_networks_of_unverified_callers_are_named() -> None:
    health = health_of(Journal(), Store())
    networks = ("172.28.47.0/24",)
    document = health.document(Settings(insecure_trusted_networks=networks), [])
    assert document["insecureTrustedNetworks"] == networks
    assert health.document(Settings(), [])["insecureTrustedNetworks"] == ()


@pytest.mark.slow
@asynchronous
async def test_late_control_store_fails_after_three_answers() -> None:
    health = health_of(Journal(), Store())
    may_answer = asyncio.Event()
    problem = {"trail": "arn", "problem": "a bucket failed"}

    async def problems() -> list[dict[str, str]]:
        await may_answer.wait()
        return [problem]

    async def none() -> list[tuple[int, int, int]]:
        return []

    async def ask() -> str | None:
        await health.ask_control(problems, lambda: None, none)
        return health.control_failure

    may_answer.set()
    assert await ask() is None
    may_answer.clear()
    assert [await ask() for _ in range(3)] == [None, None, "the control store does not answer"]
    assert health.trail_problems == [problem], "the last answer stays"
    assert health.document(Settings(), [])["controlStore"]["ageSeconds"] >= 1
    may_answer.set()
    await turns()
    assert await ask() is None
