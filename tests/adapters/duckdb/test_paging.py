"""Pages match a plain list, wherever their events are."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from opentrail.adapters.duckdb import paging, schema
from opentrail.core.expression import parse
from opentrail.ports.event_store import FoundEvent
from tests.adapters.duckdb.worlds import ALL, world
from tests.factories import MOMENT, a_new_entry, a_record, event_id
from tests.fakes import asynchronous, naive_page

pytestmark = pytest.mark.slow


@asynchronous
async def test_pages_are_gathered_from_many_files(tmp_path: Path) -> None:
    """Names are in few files, times go up and down within them, and categories differ."""
    async with world(tmp_path, seal_records=1_000) as here:
        records = []
        for number in range(1, 111):
            moment = MOMENT + timedelta(seconds=number - number % 13)
            name = f"user-{number % 37}" if number % 10 else "everywhere"
            category = "Data" if number <= 30 else "Management"
            records.append(
                a_record(
                    eventID=event_id(number),
                    eventTime=f"{moment:%Y-%m-%dT%H:%M:%SZ}",
                    requestParameters={"userName": name},
                    managementEvent=category == "Management",
                    eventCategory=category,
                )
            )
        await here.journal.append([a_new_entry(record) for record in records])
        await here.seal(*((first, first + 9) for first in range(1, 100, 10)))
        async with here.opened() as store:
            assert store.files == 10
            entries = await here.entries()
            names = ("everywhere", "user-3", "user-5", "user-36", "nobody")
            for name, limit, categories in itertools.product(
                names, (1, 3, 10, 50), (None, ("Management",), ("Data",), ("Data", "Management"))
            ):
                query = replace(ALL, limit=limit, attribute=("ResourceName", name))
                query = replace(query, categories=categories)
                page = await store.lookup(query)
                assert page == naive_page(entries, query)
                if len(page) == limit:
                    before = (page[-1].event_time, page[-1].position)
                    following = replace(query, before=before)
                    assert await store.lookup(following) == naive_page(entries, following)
            for kind in ("AWS::IAM::User", "AWS::S3::Object"):
                query = replace(ALL, attribute=("ResourceType", kind), categories=("Data",))
                assert await store.lookup(query) == naive_page(entries, query)


@pytest.mark.parametrize("search", [None, "apiVersion = 2012* OR eventID = *"])
@asynchronous
async def test_a_page_of_large_records_is_cut_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, search: str | None
) -> None:
    async with world(tmp_path, seal_records=1_000) as here:
        entries = await here.write(60)
        await here.seal((1, 30), (31, 60))
        text = sum(len(entry.record) for entry in entries[:3])
        events_read: list[int] = []

        def found_event(row: tuple[int, str]) -> FoundEvent:
            events_read.append(row[0])
            return schema.found_event(row)

        monkeypatch.setattr(paging, "found_event", found_event)
        monkeypatch.setattr(paging, "PAGE_TEXT", text)
        monkeypatch.setattr(paging, "_READ_ROWS", 5)
        async with here.opened() as store:
            expression = parse(search, MOMENT) if search else None
            query = replace(ALL, limit=50, expression=expression)
            page = await store.lookup(query)
            assert page == naive_page(entries, query)[: len(page)]
            assert 3 < len(page) <= len(events_read) < 20
