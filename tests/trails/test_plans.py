"""Events that trails select, read again for a repeated plan, a log group or an event bus."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from opentrail.core.trail import Trail, stored_time
from opentrail.ports.control import Document, Put
from opentrail.trails.plans import (
    DeliveryState,
    EntrySelector,
    LogFilePlan,
    StreamNote,
    load_state,
)
from tests.factories import (
    ACCOUNT,
    MOMENT,
    REGION,
    a_data_record,
    a_new_entry,
    a_record,
    a_trail,
    an_entry,
    an_insight_record,
    event_id,
)
from tests.fakes import MemoryControl, MemoryJournal, asynchronous

OTHER = "eu-west-1"
ONLY_DATA = {
    "AdvancedEventSelectors": [
        {
            "FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["Data"]},
                {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
            ]
        }
    ]
}


async def a_journal() -> MemoryJournal:
    """Returns a journal: 1 and 2 here, 3 elsewhere, 4 of another account, 5 data, 6 imported."""
    journal = MemoryJournal([])
    own = [
        a_record(eventID=event_id(1)),
        a_record(eventID=event_id(2)),
        a_record(eventID=event_id(3), awsRegion=OTHER),
        a_record(eventID=event_id(4), recipientAccountId="210987654321"),
        a_data_record(eventID=event_id(5)),
    ]
    await journal.append([a_new_entry(record) for record in own])
    await journal.append([a_new_entry(a_record(eventID=event_id(6)), origin="import")])
    return journal


def a_plan(**changes: object) -> LogFilePlan:
    plan = LogFilePlan(1, "b", "k", REGION, 0, 6, "", "", "", True, False)
    return replace(plan, **changes)  # type: ignore[arg-type]


async def of_plan(plan: LogFilePlan, after: int = 0) -> list[int]:
    selector = EntrySelector(await a_journal())
    entries = selector.entries_of(plan, ACCOUNT, REGION, after)
    return [entry.position async for entry in entries]


@asynchronous
async def test_plan_has_its_regions_events_of_the_account() -> None:
    assert await of_plan(a_plan()) == [1, 2]
    assert await of_plan(a_plan(region=OTHER)) == [3]
    assert await of_plan(a_plan(after=1, until=2)) == [2]
    assert await of_plan(a_plan(kind="CloudTrail-NetworkActivity")) == []


@asynchronous
async def test_a_plan_can_be_read_from_any_position() -> None:
    assert await of_plan(a_plan(), after=1) == [2]
    assert await of_plan(a_plan(), after=6) == []


@asynchronous
async def test_a_note_has_all_members_of_its_plan() -> None:
    selector = EntrySelector(await a_journal())
    note = StreamNote.of(a_note())
    entries = selector.entries_of(note.plan, note.account, note.home_region, 1)
    assert [entry.position async for entry in entries] == [2]


def a_note() -> Document:
    """Returns a note's document in the format of the first versions."""
    return {
        "log_group": "group",
        "stream": "stream",
        "sent": 0,
        "account": ACCOUNT,
        "home_region": REGION,
        "plan": asdict(a_plan()),
        "since": stored_time(MOMENT),
    }


def test_a_note_is_stored_unchanged() -> None:
    for document in ({**a_note(), "sending": None}, {**a_note(), "sending": 3}):
        assert StreamNote.of(document).document() == document


def test_note_with_a_later_versions_plan_is_refused() -> None:
    plan = {**a_note()["plan"], "unknown": 1}
    with pytest.raises(TypeError, match="unknown"):
        StreamNote.of({**a_note(), "plan": plan})


def logging(**changes: object) -> Trail:
    return replace(a_trail(), **changes).started(0, stored_time(MOMENT))  # type: ignore[arg-type]


@asynchronous
async def test_any_logging_trail_can_select_an_event() -> None:
    journal = await a_journal()
    entries = await journal.read(0, 100)

    def taken(*trails: Trail) -> list[int]:
        matches = EntrySelector.matcher_of(trails)
        assert matches is not None
        return [entry.position for entry in matches(entries)]

    assert EntrySelector.matcher_of([]) is EntrySelector.matcher_of([a_trail()]) is None
    assert taken(logging()) == [1, 2]
    assert taken(logging(multi_region=True)) == [1, 2, 3]
    assert taken(logging(account="210987654321")) == [4]
    assert taken(logging(selectors=ONLY_DATA)) == [5]
    assert taken(logging(selectors=ONLY_DATA), logging(multi_region=True)) == [1, 2, 3, 5]
    assert EntrySelector.matcher_of([logging().stopped("call", stored_time(MOMENT))]) is None


@asynchronous
async def test_a_span_selects_entries_even_after_logging() -> None:
    entries = await (await a_journal()).read(0, 100)
    trail = logging().stopped("call", stored_time(MOMENT))
    (span,) = trail.spans
    selected = [each.position for each in entries if EntrySelector.selects(trail, span, each)]
    assert selected == [1, 2]


@asynchronous
async def test_logging_trails_select_insights_events_of_their_types() -> None:
    entry = an_entry(1, an_insight_record(), origin="insight")
    rate, errors = [{"InsightType": "ApiCallRateInsight"}], [{"InsightType": "ApiErrorRateInsight"}]

    def is_selected(*trails: Trail) -> bool:
        matches = EntrySelector.matcher_of(trails)
        assert matches is not None
        return bool(matches([entry]))

    assert is_selected(logging(insight_selectors=rate))
    assert is_selected(logging(), logging(insight_selectors=rate, selectors=ONLY_DATA))
    assert not is_selected(logging())
    assert not is_selected(logging(insight_selectors=errors))


@asynchronous
async def test_trail_begins_at_the_start_of_history() -> None:
    control = MemoryControl()
    assert await load_state(control, "one") == DeliveryState()
    state = DeliveryState(position=7, files=2, regions=(OTHER, REGION), latest_error="SlowDown")
    await control.apply([Put("delivery", "one", state.document())])
    assert await load_state(control, "one") == state
    assert await load_state(control, "two") == DeliveryState()
