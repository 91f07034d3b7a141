"""Channels in a control store that several servers share."""

from __future__ import annotations

import asyncio

import pytest

from opentrail.core.channel import Channel, IngestionStatus
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import ACTIVITY
from opentrail.core.event_data_store import EventDataStore
from opentrail.core.trail import stored_time
from opentrail.lake.channel_registry import Channels, with_settings
from opentrail.lake.store_registry import Stores
from tests.factories import ACCOUNT, MOMENT, REGION
from tests.fakes import (
    Breaker,
    MemoryControl,
    MemoryJournal,
    PowerCutError,
    SettableClock,
    asynchronous,
)

AUDIT = [{"FieldSelectors": [{"Field": "eventCategory", "Equals": [ACTIVITY]}]}]


class Server:
    """One server on a shared control store."""

    def __init__(self, control: MemoryControl, journal: MemoryJournal) -> None:
        self.control, self.journal = control, journal
        self.stores = Stores(control, journal.newest, SettableClock(MOMENT))
        self.channels = Channels(control, self.stores)


def servers() -> tuple[Server, Server]:
    control, journal = MemoryControl(), MemoryJournal()
    return Server(control, journal), Server(control, journal)


def a_store(name: str) -> EventDataStore:
    at = stored_time(MOMENT)
    more = {"billing": "EXTENDABLE_RETENTION_PRICING", "is_protected": False}
    return EventDataStore(
        name,
        name,
        ACCOUNT,
        REGION,
        AUDIT,
        False,
        90,
        created_at=at,
        updated_at=at,
        is_ingesting=True,
        **more,  # type: ignore[arg-type]
    )


def a_channel(*stores: str, name: str = "orders", source: str = "Custom") -> Channel:
    return Channel(name, name, ACCOUNT, REGION, source, stores)


async def channels_of(server: Server) -> dict[str, tuple[str, ...]]:
    return {store.name: store.channels for store in await server.stores.all()}


@asynchronous
async def test_changes_of_two_servers_at_once_are_all_in_effect() -> None:
    one, two = servers()
    for name in ("first", "second"):
        await one.stores.add(a_store(name))
    orders = a_channel("first")
    logins = a_channel("first", name="logins", source="GitHub")
    await asyncio.gather(one.channels.add(orders), two.channels.add(logins))
    assert {*(await channels_of(one))["first"]} == {str(orders.arn), str(logins.arn)}
    await asyncio.gather(
        one.channels.change(orders, lambda current: with_settings(current, None, ["second"])),
        two.channels.change(logins, lambda current: with_settings(current, "signs", None)),
    )
    assert await channels_of(two) == {
        "first": (str(logins.arn),),
        "second": (str(orders.arn),),
    }
    assert [each.name for each in await two.channels.of(ACCOUNT, REGION)] == ["orders", "signs"]


@asynchronous
async def test_refused_change_changes_nothing() -> None:
    one, _ = servers()
    await one.stores.add(a_store("first"))
    await one.channels.add(a_channel("first"))
    before = await one.stores.all()
    with pytest.raises(CloudTrailError, match="missing"):
        await one.channels.change(
            a_channel("first"), lambda current: with_settings(current, "new", ["missing"])
        )
    assert await one.stores.all() == before
    assert [each.name for each in await one.channels.of(ACCOUNT, REGION)] == ["orders"]


@asynchronous
async def test_status_covers_all_servers() -> None:
    one, two = servers()
    await one.stores.add(a_store("first"))
    channel = a_channel("first")
    await one.channels.add(channel)
    one.channels.note(channel, IngestionStatus("2020-01-01", "a", "2020-01-01", "a"))
    two.channels.note(channel, IngestionStatus("2020-01-02", "b", error_code="InvalidData"))
    await two.channels.save_statuses()
    await one.channels.save_statuses()
    expected = IngestionStatus("2020-01-02", "b", "2020-01-01", "a", "InvalidData")
    for server in (one, two):
        assert await server.channels.status(channel) == expected


@asynchronous
async def test_deleted_channel_has_no_status_later() -> None:
    one, two = servers()
    await one.stores.add(a_store("first"))
    channel = a_channel("first")
    await one.channels.add(channel)
    two.channels.note(channel, IngestionStatus("2020-01-01", "a"))
    await one.channels.remove(channel)
    await two.channels.save_statuses()
    assert await two.channels.status(channel) is None
    assert await channels_of(one) == {"first": ()}


@asynchronous
async def test_status_is_stored_after_a_failure() -> None:
    one, two = servers()
    await one.stores.add(a_store("first"))
    channel = a_channel("first")
    await one.channels.add(channel)
    status = IngestionStatus("2020-01-01", "a", "2020-01-01", "a")
    # The third operation, the write, meets a power cut.
    failing = Server(MemoryControl(one.control.disk, Breaker(at=3)), one.journal)
    failing.channels.note(channel, status)
    with pytest.raises(PowerCutError):
        await failing.channels.save_statuses()
    assert await two.channels.status(channel) is None
    assert failing.channels._unsaved == {channel.key: status}
