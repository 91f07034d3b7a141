"""Event history: freshness, pages, tokens, retention."""

from __future__ import annotations

import asyncio
import base64
import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.adapters.duckdb import paging
from opentrail.adapters.duckdb.seal import seal
from opentrail.adapters.duckdb.store import DuckdbEvents
from opentrail.adapters.sqlite import SqliteJournal
from opentrail.adapters.sqlite.source import SqliteJournalSource
from opentrail.core.attributes import LOOKUP_KEYS, Resource
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, Entry, format_time
from opentrail.core.expression import parse
from opentrail.history import event_history
from opentrail.history.event_history import (
    CountSearch,
    EventCount,
    Histogram,
    History,
    Page,
    Search,
    event_document,
    has_all,
)
from opentrail.ports.event_store import CallKey, EventQuery, FoundEvent
from opentrail.ports.metrics import Metrics
from tests.adapters.duckdb.worlds import folders
from tests.factories import (
    ABSENT,
    ACCOUNT,
    KEY,
    MOMENT,
    REGION,
    a_data_record,
    a_new_entry,
    a_record,
    an_entry,
    an_iam_user,
    entries_of,
    event_id,
    some_records,
)
from tests.fakes import (
    MemoryEvents,
    SettableClock,
    asynchronous,
    at,
    naive_page,
    run,
    turns,
)


class World:
    """A history over a store in memory."""

    def __init__(self, token_key: bytes = b"k" * 32, store: MemoryEvents | None = None) -> None:
        self.clock = SettableClock(MOMENT + timedelta(days=1))
        self.metrics = Metrics()
        self.store = store or MemoryEvents()
        self.history = History(self.store, self.clock, self.metrics, token_key)

    async def filled(self, entries: Sequence[Entry]) -> History:
        await self.history.follower.process(entries)
        self.history.follower.catch_up_to(0)
        return self.history

    def observed(self) -> tuple[float, float]:
        """The number of measured records, and the sum of their freshness in seconds."""
        count = self.metrics.registry.get_sample_value("opentrail_visible_seconds_count")
        total = self.metrics.registry.get_sample_value("opentrail_visible_seconds_sum")
        assert count is not None
        assert total is not None
        return count, total


def positions(page: Page | Sequence[FoundEvent]) -> list[int]:
    return [e.position for e in (page.events if isinstance(page, Page) else page)]


async def first_token(history: History, search: Search, limit: int = 3) -> str:
    token = (await history.search(search, limit)).next_token
    assert token is not None
    return token


# Pages


@asynchronous
async def test_pages_have_all_events() -> None:
    history = await World().filled(entries_of(some_records(10)))
    seen: list[int] = []
    token: str | None = None
    sizes = []
    while True:
        page = await history.search(Search(), 4, token)
        seen.extend(positions(page))
        sizes.append(len(page.events))
        token = page.next_token
        if token is None:
            break
        assert token
    assert seen == list(range(10, 0, -1))
    assert sizes == [4, 4, 2]


@asynchronous
async def test_a_lookup_sees_all_earlier_durable_events() -> None:
    world = World()
    history = History(world.store, world.clock, world.metrics, b"k" * 32, newest=at(5))
    await history.follower.process(entries_of(some_records(2)))
    history.follower.catch_up_to(0)
    asked = asyncio.create_task(history.search(Search()))
    await turns()
    assert history.follower.flush_now.is_set()
    history.follower.flush_now.clear()
    await history.follower.process(entries_of(some_records(2, first=3), first=3))
    await turns()
    assert not asked.done()
    assert history.follower.flush_now.is_set(), "it is not enough yet"
    await history.follower.process(entries_of(some_records(1, first=5), first=5))
    await turns()
    assert asked.done(), "it waits for events after the lookup"
    assert positions(await asked) == [5, 4, 3, 2, 1]
    assert positions(await history.search(Search())) == [5, 4, 3, 2, 1]


@pytest.mark.slow
def test_lookup_without_newest_events_is_throttled() -> None:
    async def story() -> None:
        world = World()
        history = History(world.store, world.clock, world.metrics, b"k" * 32, newest=at(99))
        history.follower.catch_up_to(0)
        with pytest.raises(CloudTrailError) as refused:
            await history.search(Search())
        assert refused.value.code == "ThrottlingException"

    run(story())


@asynchronous
async def test_pages_of_large_events_are_shorter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand records could exceed the memory of the store's process or the server."""
    entries = entries_of(some_records(10))
    for module in (event_history, paging):
        monkeypatch.setattr(module, "PAGE_TEXT", sum(len(e.record) for e in entries[:3]) + 9)
    store = DuckdbEvents(folders(tmp_path)[0], SqliteJournalSource(tmp_path / "journal"))
    await store.open()
    try:
        history = History(store, SettableClock(MOMENT + timedelta(days=1)), Metrics(), b"k" * 32)
        await history.follower.process(entries)
        history.follower.catch_up_to(0)
        seen: list[list[int]] = []
        token = None
        while not seen or token:
            page = await history.search(Search(), 1_000, token)
            seen.append(positions(page))
            token = page.next_token
        assert seen == [[10, 9, 8, 7], [6, 5, 4, 3], [2, 1]]
        nine = await history.latest(Search(), 9)
        assert (len(nine), has_all(nine, 9), has_all(nine, 10)) == (9, False, True)
        text = sum(len(event.record) for event in nine[:5])
        monkeypatch.setattr(event_history, "MAX_LATEST_TEXT", text)
        newest = await history.latest(Search(), 100)
        assert [event.position for event in newest] == [10, 9, 8, 7, 6, 5, 4, 3]
        assert not has_all(newest, 100)
    finally:
        await store.close()


@pytest.mark.parametrize("count", [0, 1, 4, 5, 8])
@asynchronous
async def test_only_unfinished_pages_have_a_token(count: int) -> None:
    history = await World().filled(entries_of(some_records(count)))
    page = await history.search(Search(), 4)
    assert (page.next_token is not None) == (count > 4)
    if page.next_token is not None:
        second = await history.search(Search(), 4, page.next_token)
        assert len(second.events) == count - 4
        assert second.next_token is None


@asynchronous
async def test_later_arrivals_do_not_move_later_pages() -> None:
    world = World()
    history = await world.filled(entries_of(some_records(6)))
    token = await first_token(history, Search())
    await history.follower.process(entries_of(some_records(9, first=7), first=7))
    page = await history.search(Search(), 50, token)
    assert positions(page) == [3, 2, 1]
    assert positions(await history.search(Search(), 3)) == [15, 14, 13]


@asynchronous
async def test_page_size_may_change_from_page_to_page() -> None:
    history = await World().filled(entries_of(some_records(10)))
    token = await first_token(history, Search(), 2)
    page = await history.search(Search(), 5, token)
    assert positions(page) == [8, 7, 6, 5, 4]
    assert positions(await history.search(Search(), 1, page.next_token)) == [3]


@asynchronous
async def test_a_search_is_narrowed_by_every_condition() -> None:
    records = some_records(8)
    records[1]["eventName"] = "DeleteUser"
    records[2]["awsRegion"] = "eu-west-1"
    records[3]["recipientAccountId"] = "210987654321"
    records[4]["eventCategory"] = "Data"
    history = await World().filled(entries_of(records))

    async def found(**conditions: Any) -> list[int]:
        return positions(await history.search(Search(**conditions)))

    assert await found() == [8, 7, 6, 5, 4, 3, 2, 1]
    assert await found(account="210987654321") == [4]
    assert await found(region="eu-west-1") == [3]
    assert await found(categories=("Data",)) == [5]
    assert await found(attribute=("EventName", "DeleteUser")) == [2]
    second = MOMENT + timedelta(seconds=7)
    assert await found(start=second) == [8, 7]
    assert await found(end=second) == [7, 6, 5, 4, 3, 2, 1]
    assert await found(start=second, end=second) == [7]


MINE, THEIRS = "111111111111", "222222222222"


async def of_two_accounts() -> History:
    records = some_records(12)
    for number, record in enumerate(records):
        record["recipientAccountId"] = (MINE, THEIRS, ACCOUNT)[number % 3]
        record["eventName"] = f"Call{number % 3}"
    return await World().filled(entries_of(records))


@asynchronous
async def test_a_view_finds_only_events_of_its_accounts() -> None:
    history = await of_two_accounts()
    view = history.limited_to([MINE])
    assert positions(await view.search(Search())) == [10, 7, 4, 1]
    assert positions(await view.search(Search(account=THEIRS))) == []
    either = parse(f"account={THEIRS} OR account={MINE}", MOMENT)
    assert positions(await view.search(Search(expression=either))) == [10, 7, 4, 1]
    assert positions(await view.latest(Search(), 100)) == [10, 7, 4, 1]
    assert await view.count_events(Search()) == EventCount(4, is_exact=True)
    assert sum(each.ok for each in (await view.histogram(Search())).periods) == 4
    assert await view.facets(Search(), ["eventName", "account"]) == {
        "eventName": [("Call0", 4)],
        "account": [(MINE, 4)],
    }
    assert await view.values("eventName", "Call", Search()) == [("Call0", 4)]
    assert positions(await history.limited_to([MINE, THEIRS]).search(Search(), 4)) == [11, 10, 8, 7]
    assert positions(await history.limited_to(None).search(Search(), 3)) == [12, 11, 10]
    assert positions(await history.search(Search(), 3)) == [12, 11, 10]


@asynchronous
async def test_a_view_counts_only_keys_of_its_accounts() -> None:
    history = await of_two_accounts()
    for account, count in ((MINE, 4), (THEIRS, 0)):
        name = "Call0" if account == MINE else "Call1"
        key = CallKey(account, REGION, "Management", "iam.amazonaws.com", name)
        search = CountSearch(key, 60, timedelta(days=2))
        found = (await history.limited_to([MINE]).count(search, 100)).counts
        assert sum(each for _, each in found) == count
    assert sum(each for _, each in (await history.count(search, 100)).counts) == 4


@asynchronous
async def test_view_has_new_events_and_its_own_tokens() -> None:
    world, head = World(), 0

    async def newest() -> int:
        return head

    history = History(world.store, world.clock, world.metrics, b"k" * 32, newest=newest)
    history.follower.catch_up_to(0)
    view = history.limited_to([ACCOUNT])
    head = 4
    asked = asyncio.create_task(view.search(Search(), 2))
    await turns()
    await history.follower.process(entries_of(some_records(4)))
    page = await asked
    assert positions(page) == [4, 3]
    assert positions(await view.search(Search(), 2, page.next_token)) == [2, 1]
    for other in (history, history.limited_to([MINE])):
        with pytest.raises(CloudTrailError, match="token"):
            await other.search(Search(), 2, page.next_token)


@pytest.mark.slow
@asynchronous
async def test_latest_reads_as_many_pages_as_needed() -> None:
    history = await World().filled(entries_of(some_records(2_500)))
    assert positions(await history.latest(Search(), 10_000)) == list(range(2_500, 0, -1))
    assert positions(await history.latest(Search(), 1_700)) == list(range(2_500, 800, -1))
    assert await history.latest(Search(account="0"), 10) == []


@asynchronous
async def test_about_finds_the_events_of_a_resource() -> None:
    records = some_records(4)
    records[2]["requestParameters"] = {"userName": "Bob"}
    records[2]["responseElements"] = None
    history = await World().filled(entries_of(records))
    assert positions(await history.events_of("Mary", Search())) == [4, 2, 1]
    assert positions(await history.events_of("Bob", Search())) == [3]
    assert positions(await history.events_of(f"arn:aws:iam::{ACCOUNT}:user/Mary", Search())) == [
        4,
        2,
        1,
    ]
    assert positions(await history.events_of("Mary", Search(account="0"))) == []


@asynchronous
async def test_the_earliest_events_have_the_first_second() -> None:
    records = some_records(4)
    records[1]["eventTime"] = records[0]["eventTime"]
    history = await World().filled(entries_of(records))
    assert positions(await history.earliest(Search())) == [2, 1]
    about_bob = Search(attribute=("ResourceName", "Bob"))
    assert await history.earliest(about_bob) == []


# Tokens

SEARCH = Search(
    account=ACCOUNT,
    region=REGION,
    categories=("Management",),
    attribute=("EventName", "CreateUser"),
    start=MOMENT,
    end=MOMENT + timedelta(hours=1),
)
OTHERS = [
    replace(SEARCH, account="210987654321"),
    replace(SEARCH, account=None),
    replace(SEARCH, region="eu-west-1"),
    replace(SEARCH, categories=("Insight",)),
    replace(SEARCH, categories=None),
    replace(SEARCH, attribute=("EventName", "DeleteUser")),
    replace(SEARCH, attribute=("EventSource", "CreateUser")),
    replace(SEARCH, attribute=None),
    replace(SEARCH, start=MOMENT + timedelta(seconds=1)),
    replace(SEARCH, start=None),
    replace(SEARCH, end=None),
    replace(SEARCH, start=SEARCH.end, end=SEARCH.start),
]


async def refused(history: History, search: Search, token: str) -> None:
    with pytest.raises(CloudTrailError) as error:
        await history.search(search, 3, token)
    assert error.value.code == "InvalidNextTokenException"


@pytest.mark.parametrize("other", OTHERS, ids=str)
@asynchronous
async def test_a_token_is_refused_for_another_search(other: Search) -> None:
    history = await World().filled(entries_of(some_records(10)))
    token = await first_token(history, SEARCH)
    await refused(history, other, token)
    assert len((await history.search(SEARCH, 3, token)).events) == 3


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "====",
        "AAAA",
        "not base64 !",
        "ä",
        "\ud800",
        "A" * 5_000,
        base64.b64encode(b"[1]" * 9).decode(),
    ],
    ids=["empty", "short", "padding", "zeros", "spaces", "umlaut", "surrogate", "long", "no seal"],
)
@asynchronous
async def test_an_invalid_token_is_refused(token: str) -> None:
    history = await World().filled(entries_of(some_records(10)))
    await refused(history, SEARCH, token)


@asynchronous
async def test_a_token_of_another_server_is_refused() -> None:
    entries = entries_of(some_records(10))
    token = await first_token(await World(b"a" * 32).filled(entries), SEARCH)
    await refused(await World(b"b" * 32).filled(entries), SEARCH, token)


@asynchronous
async def test_a_token_survives_a_restart_with_its_key() -> None:
    entries = entries_of(some_records(10))
    token = await first_token(await World().filled(entries), SEARCH)
    page = await (await World().filled(entries)).search(SEARCH, 50, token)
    assert positions(page) == [7, 6, 5, 4, 3, 2, 1]


@pytest.mark.hypothesis
@settings(deadline=None)
@given(data=st.data())
def test_a_token_changed_anywhere_is_refused(data: st.DataObject) -> None:
    async def story() -> None:
        history = await World().filled(entries_of(some_records(10)))
        raw = bytearray(base64.urlsafe_b64decode(await first_token(history, SEARCH)))
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place] ^= data.draw(st.integers(1, 255))
        await refused(history, SEARCH, base64.urlsafe_b64encode(raw).decode())

    run(story())


@asynchronous
async def test_a_token_cut_short_or_extended_is_refused() -> None:
    history = await World().filled(entries_of(some_records(10)))
    raw = base64.urlsafe_b64decode(await first_token(history, SEARCH))
    for changed in (*(raw[:length] for length in range(len(raw))), raw + b"0", raw + b" "):
        await refused(history, SEARCH, base64.urlsafe_b64encode(changed).decode())


@asynchronous
async def test_a_token_hides_the_search_and_the_account() -> None:
    history = await World().filled(entries_of(some_records(10)))
    token = await first_token(history, SEARCH)
    assert ACCOUNT.encode() not in base64.urlsafe_b64decode(token)


# Counts of the events of a search


def an_event(number: int, moment: datetime, **changes: Any) -> Entry:
    return an_entry(
        number, a_record(eventID=event_id(number), eventTime=format_time(moment), **changes)
    )


def shown(histogram: Histogram) -> list[tuple[float, int, int]]:
    """Returns the periods with events, by hours since `MOMENT`."""
    return [
        ((period.start - MOMENT) / timedelta(hours=1), period.ok, period.failed)
        for period in histogram.periods
        if period.ok or period.failed
    ]


@asynchronous
async def test_events_are_counted_exactly_up_to_a_number() -> None:
    history = await World().filled(entries_of(some_records(10)))
    assert await history.count_events(Search()) == EventCount(10, is_exact=True)
    assert await history.count_events(Search(), 10) == EventCount(10, is_exact=True)
    assert await history.count_events(Search(), 9) == EventCount(9, is_exact=False)
    assert await history.count_events(Search(region="x")) == EventCount(0, is_exact=True)


@asynchronous
async def test_counts_see_all_earlier_durable_events() -> None:
    world = World()
    history = History(world.store, world.clock, world.metrics, b"k" * 32, newest=at(3))
    await history.follower.process(entries_of(some_records(2)))
    history.follower.catch_up_to(0)
    counting = asyncio.create_task(history.count_events(Search()))
    histogram_of_all = asyncio.create_task(history.histogram(Search()))
    facets_of_all = asyncio.create_task(history.facets(Search(), ["region"]))
    await turns()
    await history.follower.process(entries_of(some_records(1, first=3), first=3))
    count, histogram, facets = await counting, await histogram_of_all, await facets_of_all
    assert count == EventCount(3, is_exact=True)
    assert sum(period.ok for period in histogram.periods) == 3
    assert facets == {"region": [(REGION, 3)]}


@asynchronous
async def test_only_retained_events_are_counted() -> None:
    world = World()
    history = await world.filled(recorded_a_day_apart(10))
    world.clock.moment = MOMENT + timedelta(days=94)
    assert await history.count_events(Search()) == EventCount(7, is_exact=True)
    assert await history.facets(Search(), ["account"]) == {"account": [(ACCOUNT, 7)]}
    assert sum(period.ok for period in (await history.histogram(Search())).periods) == 7


@asynchronous
async def test_a_histogram_without_range_has_all_events() -> None:
    world = World()  # its clock is a day after MOMENT
    history = await world.filled(
        [
            an_event(1, MOMENT - timedelta(days=2, minutes=1)),
            an_event(2, MOMENT, errorCode="AccessDenied"),
            an_event(3, MOMENT + timedelta(minutes=59)),
        ]
    )
    whole = await history.histogram(Search())
    assert (whole.seconds, len(whole.periods)) == (7_200, 37)
    assert whole.start == MOMENT - timedelta(hours=49)
    assert whole.end > world.clock.now() >= whole.end - timedelta(seconds=whole.seconds)
    assert shown(whole) == [(-49, 1, 0), (-1, 1, 1)]


@asynchronous
async def test_a_histogram_also_has_future_events() -> None:
    world = World()
    history = await world.filled([an_event(1, world.clock.now() + timedelta(hours=2))])
    whole = await history.histogram(Search(start=MOMENT))
    assert shown(whole) == [(26, 1, 0)]
    assert whole.periods[-1].ok == 1


@asynchronous
async def test_histogram_of_a_range_has_only_its_periods() -> None:
    history = await World().filled(entries_of(some_records(5)))
    end = MOMENT + timedelta(minutes=59, seconds=59)
    hour = await history.histogram(Search(start=MOMENT, end=end))
    assert (hour.start, hour.seconds, len(hour.periods)) == (MOMENT, 60, 60)
    assert hour.end == MOMENT + timedelta(hours=1)
    assert sum(period.ok for period in hour.periods) == 5
    for buckets, expected in ((0, 2), (2, 2), (13, 12), (1_000, 120)):
        some = await history.histogram(Search(start=MOMENT, end=end), buckets)
        assert len(some.periods) == expected
    later = Search(start=MOMENT + timedelta(days=3))
    assert (await history.histogram(later)).periods == []


@asynchronous
async def test_histogram_without_events_has_the_last_seven_days() -> None:
    world = World()
    histogram = await (await world.filled([])).histogram(Search())
    assert histogram.end - histogram.start >= timedelta(days=7)
    assert histogram.end > world.clock.now()
    assert shown(histogram) == []


@asynchronous
async def test_facets_and_expressions_share_names() -> None:
    history = await World().filled(entries_of(some_records(2)))
    names = ("eventName", "username", "eventSource", "region", "sourceIp", "errorCode")
    assert await history.facets(Search(), [*names, "resourceType", "account"]) == {
        "eventName": [("CreateUser", 2)],
        "username": [("John", 2)],
        "eventSource": [("iam.amazonaws.com", 2)],
        "region": [(REGION, 2)],
        "sourceIp": [("192.0.2.10", 2)],
        "errorCode": [],
        "resourceType": [("AWS::IAM::User", 2)],
        "account": [(ACCOUNT, 2)],
    }
    assert await history.facets(Search(), []) == {}
    assert await history.facets(Search(), ["agent"]) == {"agent": []}


@pytest.mark.parametrize(
    "name", ["", "nothing", "eventId", "readOnly", "resourceName", "event_name"]
)
@asynchronous
async def test_field_whose_values_are_not_counted_is_refused(name: str) -> None:
    history = await World().filled([])
    with pytest.raises(CloudTrailError, match="field must be one of eventname, ") as refusal:
        await history.facets(Search(), ["eventName", name])
    assert refusal.value.code == "InvalidParameterException"


@asynchronous
async def test_values_are_suggested_by_their_prefix() -> None:
    names = ["CreateUser", "CreateRole", "CreateRole", "DeleteUser"]
    history = await World().filled(
        [an_event(n, MOMENT, eventName=name) for n, name in enumerate(names, 1)]
    )
    found = await history.values("eventName", "cre", Search())
    assert found == [("CreateRole", 2), ("CreateUser", 1)]
    assert await history.values("eventName", "", Search(), 1) == [("CreateRole", 2)]
    assert await history.values("eventName", "cre", Search(end=MOMENT - timedelta(days=1))) == []


EACH_HAS_ONE = ("eventName", "eventSource", "region", "account", "category", "sourceIp")
RANDOM = random.Random(1)
ENTRIES = [
    an_event(
        number,
        MOMENT - timedelta(seconds=int(10 ** RANDOM.uniform(0, 7.3))),
        eventName=RANDOM.choice(["CreateUser", "DeleteUser", "GetUser"]),
        eventSource=RANDOM.choice(["iam.amazonaws.com", "signin.amazonaws.com"]),
        awsRegion=RANDOM.choice([REGION, "eu-west-1"]),
        userIdentity=an_iam_user(RANDOM.choice(["John", "Mary"])),
        errorCode=RANDOM.choice([ABSENT, "AccessDenied"]),
        responseElements=RANDOM.choice([None, {"ConsoleLogin": "Failure"}]),
    )
    for number in range(1, 301)
]
times = st.integers(0, 10**8).map(lambda seconds: MOMENT - timedelta(seconds=seconds / 5))
searches = st.builds(
    Search,
    region=st.none() | st.just("eu-west-1"),
    categories=st.none() | st.just(("Management",)),
    expression=st.none()
    | st.sampled_from(
        [
            "name:create",
            "is:failure NOT user=Mary",
            "userIdentity.userName=Mary",
            "NOT (name=GetUser OR responseElements.ConsoleLogin=Failure)",
        ]
    ).map(lambda text: parse(text, MOMENT)),
    start=st.none() | times,
    end=st.none() | times,
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, History]]:
    """A history over a real store with `ENTRIES`, half of them in a sealed file."""
    history_folder, journal_folder = folders(tmp_path_factory.mktemp("real"))

    async def opened() -> tuple[SqliteJournal, DuckdbEvents]:
        journal = SqliteJournal(journal_folder)
        await journal.append([a_new_entry(json.loads(entry.record)) for entry in ENTRIES])
        await asyncio.to_thread(seal, SqliteJournalSource(journal_folder), history_folder, 1, 150)
        store = DuckdbEvents(history_folder, SqliteJournalSource(journal_folder))
        await store.open()
        await store.add(ENTRIES)
        return journal, store

    with asyncio.Runner() as runner:
        journal, store = runner.run(opened())
        history = History(store, SettableClock(), Metrics(), b"k" * 32)
        history.follower.catch_up_to(0)
        yield runner, history
        runner.run(store.close())
        runner.run(journal.close())


@pytest.mark.hypothesis
@settings(max_examples=100, deadline=None)
@given(search=searches, buckets=st.integers(2, 120))
@pytest.mark.slow
def test_the_counts_of_any_search_equal_its_events(
    real: tuple[asyncio.Runner, History], search: Search, buckets: int
) -> None:
    async def story() -> None:
        history = real[1]
        everything = EventQuery(
            1_000,
            region=search.region,
            categories=search.categories,
            expression=search.expression,
            start=search.start,
            end=search.end,
        )
        events = naive_page(ENTRIES, everything)
        assert await history.count_events(search) == EventCount(len(events), is_exact=True)
        histogram = await history.histogram(search, buckets)
        failed = sum('"errorCode"' in event.record for event in events)
        assert sum(period.failed for period in histogram.periods) == failed
        assert sum(period.ok for period in histogram.periods) == len(events) - failed
        assert len(histogram.periods) <= buckets
        for period in histogram.periods:
            end = period.start + timedelta(seconds=histogram.seconds)
            inside = sum(period.start <= event.event_time < end for event in events)
            assert period.ok + period.failed == inside
        facets = await history.facets(search, [*EACH_HAS_ONE, "username"])
        for name in EACH_HAS_ONE:
            assert sum(count for _, count in facets[name]) == len(events)
        names = Counter(event.username for event in events).items()
        assert facets["username"] == sorted(names, key=lambda item: (-item[1], item[0] or ""))

    real[0].run(story())


# Retention


def recorded_a_day_apart(count: int) -> list[Entry]:
    return [
        replace(entry, recorded_at=MOMENT + timedelta(days=entry.position))
        for entry in entries_of(some_records(count))
    ]


@asynchronous
async def test_events_are_visible_for_ninety_days() -> None:
    world = World()
    history = await world.filled(recorded_a_day_apart(10))
    world.clock.moment = MOMENT + timedelta(days=94)
    assert positions(await history.search(Search())) == [10, 9, 8, 7, 6, 5, 4]
    before = Search(start=MOMENT - timedelta(days=1), end=MOMENT + timedelta(seconds=5))
    assert positions(await history.search(before)) == [5, 4]
    assert positions(await history.search(Search(start=MOMENT + timedelta(seconds=9)))) == [10, 9]
    world.clock.moment = MOMENT + timedelta(days=101)
    assert positions(await history.search(Search())) == []


@asynchronous
async def test_retention_is_a_setting() -> None:
    world = World()
    history = History(
        world.store, world.clock, world.metrics, b"k" * 32, retention=timedelta(days=1)
    )
    history.follower.catch_up_to(0)
    await history.follower.process(recorded_a_day_apart(10))
    world.clock.moment = MOMENT + timedelta(days=10, hours=1)
    assert positions(await history.search(Search())) == [10]


@asynchronous
async def test_data_events_may_have_a_shorter_retention() -> None:
    world = World()
    history = History(
        world.store, world.clock, world.metrics, b"k" * 32, data_retention=timedelta(days=1)
    )
    history.follower.catch_up_to(0)
    data = a_data_record(eventID=event_id(1))
    await history.follower.process(entries_of([data, a_record(eventID=event_id(2))]))
    key = CallKey(ACCOUNT, REGION, DATA, data["eventSource"], data["eventName"])
    count = CountSearch(key, 86_400, timedelta(days=90))
    for days, seen, counted in ((0.9, [2, 1], 1), (1.1, [2], 0)):
        world.clock.moment = MOMENT + timedelta(days=days)
        assert positions(await history.search(Search())) == seen
        assert sum(n for _, n in (await history.count(count, 100)).counts) == counted


# Catching up, freshness


@asynchronous
async def test_lookups_wait_until_earlier_records_are_visible() -> None:
    world = World()
    looking = asyncio.create_task(world.history.search(Search()))
    await turns()
    assert not looking.done()
    world.history.follower.catch_up_to(6)
    await world.history.follower.process(entries_of(some_records(5)))
    await turns()
    assert not looking.done()
    await world.history.follower.process(entries_of(some_records(1, first=6), first=6))
    async with asyncio.timeout(60):
        assert len((await looking).events) == 6


@asynchronous
async def test_token_waits_for_the_imports_of_another_server() -> None:
    entries = entries_of(some_records(10))
    ahead, behind = World(), World()
    ahead.store.add_imported(an_entry(-1))
    token = await first_token(await ahead.filled(entries), Search())
    with pytest.raises(CloudTrailError, match="try again") as error:
        await (await behind.filled(entries)).search(Search(), 3, token)
    assert error.value.code == "ThrottlingException"


@asynchronous
async def test_visible_events_need_no_wait() -> None:
    world = World()
    await world.history.follower.process(entries_of(some_records(3)))
    world.history.follower.catch_up_to(3)
    async with asyncio.timeout(60):
        assert len((await world.history.search(Search())).events) == 3


@asynchronous
async def test_the_cursor_belongs_to_the_store() -> None:
    world = World()
    assert await world.history.follower.cursor() == 0
    await world.history.follower.process(entries_of(some_records(3)))
    assert await world.history.follower.cursor() == 3
    assert await World().history.follower.cursor() == 0


@asynchronous
async def test_a_repeated_batch_is_visible_once() -> None:
    world = World()
    entries = entries_of(some_records(5))
    history = await world.filled(entries)
    await history.follower.process(entries)
    await history.follower.process(entries[3:])
    assert positions(await history.search(Search())) == [5, 4, 3, 2, 1]


@asynchronous
async def test_freshness_is_measured_from_recording_to_visibility() -> None:
    world = World()
    history = await world.filled([])
    now = world.clock.now()
    ages = (0.5, 0.25, 0)
    await history.follower.process(
        [
            an_entry(number, recorded_at=now - timedelta(seconds=age))
            for number, age in enumerate(ages, 1)
        ]
    )
    assert world.observed() == (3, 0.75)
    sample = world.metrics.registry.get_sample_value
    assert sample("opentrail_history_position") == 3


@asynchronous
async def test_a_clock_set_back_gives_no_negative_freshness() -> None:
    world = World()
    history = await world.filled([])
    later = world.clock.now() + timedelta(hours=1)
    await history.follower.process([an_entry(1, recorded_at=later)])
    assert world.observed() == (1, 0)


@asynchronous
async def test_rebuilding_is_not_counted_as_freshness() -> None:
    world = World()
    world.history.follower.catch_up_to(4)
    await world.history.follower.process(entries_of(some_records(4)))
    assert world.observed() == (0, 0)
    await world.history.follower.process([an_entry(5, recorded_at=world.clock.now())])
    assert world.observed() == (1, 0)


# The shape of an event


@asynchronous
async def test_an_event_has_the_shape_of_lookup_events() -> None:
    record = a_record(eventID=event_id(1))
    history = await World().filled([an_entry(1, record)])
    (event,) = (await history.search(Search())).events
    shown = event_document(event)
    assert json.loads(shown.pop("CloudTrailEvent")) == record
    assert shown == {
        "EventId": event_id(1),
        "EventName": "CreateUser",
        "ReadOnly": "false",
        "AccessKeyId": KEY,
        "EventTime": int(MOMENT.timestamp()),
        "EventSource": "iam.amazonaws.com",
        "Username": "John",
        "Resources": [
            {"ResourceType": "AWS::IAM::User", "ResourceName": "Mary"},
            {
                "ResourceType": "AWS::IAM::User",
                "ResourceName": f"arn:aws:iam::{ACCOUNT}:user/Mary",
            },
        ],
    }


def test_absent_members_are_left_out() -> None:
    bare = FoundEvent(
        1, MOMENT, "i", "Decrypt", "kms", True, None, None, (Resource(None, "k"),), "{}"
    )
    shown = event_document(bare)
    assert shown["ReadOnly"] == "true"
    assert shown["Resources"] == [{"ResourceName": "k"}]
    assert not {"Username", "AccessKeyId"} & set(shown)
    assert event_document(replace(bare, resources=()))["Resources"] == []


@asynchronous
async def test_every_lookup_attribute_is_searchable() -> None:
    record = a_record(eventID="the-id", userIdentity=an_iam_user("Zoë"))
    history = await World().filled([an_entry(1, record)])
    values = {
        "EventId": "the-id",
        "EventName": "CreateUser",
        "ReadOnly": "false",
        "Username": "Zoë",
        "ResourceType": "AWS::IAM::User",
        "ResourceName": "Mary",
        "EventSource": "iam.amazonaws.com",
        "AccessKeyId": KEY,
    }
    assert set(values) == set(LOOKUP_KEYS)
    for key, value in values.items():
        assert positions(await history.search(Search(attribute=(key, value)))) == [1]
        assert positions(await history.search(Search(attribute=(key, f"{value}x")))) == []
