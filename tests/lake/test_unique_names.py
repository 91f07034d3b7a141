"""Names are unique and quotas hold, however the changes of several servers interleave."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from opentrail.core.channel import Channel
from opentrail.core.errors import CloudTrailError, Conflict, UsageError
from opentrail.lake import channel_registry
from opentrail.lake.store_registry import QUOTA
from opentrail.ports.collection import Codec, Collection
from tests.factories import ACCOUNT, REGION
from tests.fakes import Breaker, MemoryControl, MemoryJournal, asynchronous
from tests.lake.test_channel_registry import Server, a_store

Add = Callable[[Server, str], Awaitable[object]]


async def add_store(server: Server, name: str) -> object:
    return await server.stores.add(replace(a_store(name), id=f"{id(server)}-{name}"))


async def rename_store(server: Server, name: str) -> object:
    """Gives the name to a store of this server's own."""
    own = f"own-{id(server)}"
    with suppress(CloudTrailError):
        await server.stores.add(a_store(own))
    store = await server.stores.find(ACCOUNT, REGION, own)
    return await server.stores.change(store, lambda each: replace(each, name=name))


async def add_channel(server: Server, name: str) -> None:
    await server.channels.add(Channel(f"{id(server)}-{name}", name, ACCOUNT, REGION, "Custom", ()))


async def add_value(server: Server, name: str) -> None:
    await limited(server.control).put(name, {"of": id(server)}, expected=0)


def limited(control: MemoryControl) -> Collection[dict[str, Any]]:
    codec: Codec[dict[str, Any]] = Codec(lambda stored: {**stored.document}, lambda value: value)
    return Collection(control, "thing", codec, limit=2, full="there are 2 already")


async def names(server: Server) -> list[str]:
    stores = [store.name for store in await server.stores.all()]
    channels = [each.name for each in await server.channels.of(ACCOUNT, REGION)]
    values = [item.stored.key for item in await limited(server.control).items()]
    return sorted([*stores, *channels, *values])


@pytest.mark.parametrize("add", [add_store, rename_store, add_channel, add_value])
def test_one_server_gets_a_name(add: Add) -> None:
    async def story(at: int) -> bool:
        disk, journal, breaker = MemoryControl().disk, MemoryJournal(), Breaker()
        one = Server(MemoryControl(disk, breaker), journal)
        two = Server(MemoryControl(disk), journal)
        outcomes: list[str] = []

        async def attempt(server: Server) -> None:
            try:
                await add(server, "everything")
                outcomes.append("added")
            except (CloudTrailError, Conflict):
                outcomes.append("refused")

        breaker.before_next(at, lambda: attempt(two))
        await attempt(one)
        is_past = breaker.count < at
        if is_past:
            await attempt(two)
        assert sorted(outcomes) == ["added", "refused"]
        assert (await names(two)).count("everything") == 1
        return is_past

    assert any(asyncio.run(story(at)) for at in range(1, 30))


@pytest.mark.parametrize(
    ("add", "quota"),
    [(add_store, QUOTA), (add_channel, 3), (add_value, 2)],
    ids=["stores", "channels", "values"],
)
@asynchronous
async def test_quota_holds_on_three_servers(
    add: Add, quota: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_registry, "MAX_CHANNELS", 3)
    if add is add_channel:  # only one channel may have a source
        monkeypatch.setattr(channel_registry, "_check_unique", lambda *_: None)
    disk, journal = MemoryControl().disk, MemoryJournal()
    servers = [Server(MemoryControl(disk), journal) for _ in range(3)]
    added = 0

    async def attempt(server: Server, name: str) -> None:
        nonlocal added
        for _ in itertools.repeat(None, 20):
            try:
                await add(server, name)
            except Conflict:
                continue
            except CloudTrailError as error:
                if error.code == "ConflictException":
                    continue
                return
            except UsageError:
                return
            added += 1
            return

    await asyncio.gather(
        *(attempt(server, f"name-{n}-{m}") for n, server in enumerate(servers) for m in range(6))
    )
    assert added == quota == len(await names(servers[0]))
