"""The created event data stores of every account, in the control store."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from opentrail.core.arns import STORE, CloudTrailArn, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError, Conflict, StatementRefused
from opentrail.core.event import ACTIVITY
from opentrail.core.event_data_store import EventDataStore
from opentrail.lake.dialect.parsing import tables_in
from opentrail.lake.event_history import NAME, store_id
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, Collection, retry_on_conflict
from opentrail.ports.control import ControlStore, Put, StoreWrite
from opentrail.ports.queries import QueryTables

KIND = "event-data-store"
#: Stores per Region, as in AWS; stores that are being deleted count.
QUOTA = 10
#: Means all Regions, in queries.
EVERY_REGION = "*"
_CHANGED = "The event data store was changed by another request; try again."
_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Stores:
    """Finds, adds, changes and removes created stores.

    A change is in effect after the last position of the journal at that time. `turn` orders
    changes and reads: its holder knows the end of the journal and the selectors up to there.

    Args:
        control: has the stores' documents.
        newest: returns the last position of the journal.
        clock: the time.
        removals: returns the changes that remove what belongs to a store.
    """

    def __init__(
        self,
        control: ControlStore,
        newest: Callable[[], Awaitable[int]],
        clock: Clock,
        removals: Callable[[EventDataStore], list[StoreWrite]] = lambda _: [],
    ) -> None:
        codec = Codec(
            lambda stored: EventDataStore.from_document(stored.document),
            lambda store: store.document(),
        )
        self._collection = Collection(control, KIND, codec, "event data store")
        self._newest = newest
        self._clock = clock
        self._removals = removals
        #: Set after each change.
        self.changed = asyncio.Event()
        #: Returns the location of a store's Iceberg table.
        self.table: Callable[[EventDataStore], str | None] = lambda _: None

    @property
    def turn(self) -> asyncio.Lock:
        """Held while stores are changed, or read with the position that they refer to."""
        return self._collection.turn

    async def all(self) -> list[EventDataStore]:
        """Returns all stores, including those awaiting removal."""
        return await self._collection.all()

    async def of(self, account: str, region: str) -> list[EventDataStore]:
        """Returns the stores of an account and Region, by name."""
        return await self.visible((account,), region)

    async def find(self, account: str, region: str, given: str) -> EventDataStore:
        """Returns a store of an account and Region by ARN or id.

        Raises:
            CloudTrailError: `EventDataStoreARNInvalidException` or
                `EventDataStoreNotFoundException`.
        """
        wanted = given
        if given.startswith("arn:"):
            arn = read_cloudtrail_arn(given)
            if arn is None or arn.type != STORE:
                message = f"{given} is not the ARN of an event data store."
                raise CloudTrailError("EventDataStoreARNInvalidException", message)
            wanted = arn.name if (arn.account, arn.region) == (account, region) else ""
        for store in await self.of(account, region):
            if store.id == wanted:
                return store
        raise not_found(given)

    async def add(self, store: EventDataStore) -> EventDataStore:
        """Adds a store, and returns it with its first phase.

        Raises:
            CloudTrailError: `EventDataStoreAlreadyExistsException`,
                `EventDataStoreMaxLimitExceededException`, or `ConflictException`.
        """

        async def attempt() -> EventDataStore:
            fence = await self._fence(store)
            others = await self.of(store.account, store.region)
            _check_name(store, others)
            _check_quota(len(others), store)
            added = store.with_phase(await self._newest())
            await self._collection.apply([self._collection.addition(added.key, added), fence])
            return added

        return await self._in_turn(attempt)

    async def _fence(self, store: EventDataStore) -> Put:
        """Returns the fence of the names in an account and Region."""
        return await self._collection.fence(f"{store.account}/{store.region}")

    async def _in_turn(self, attempt: Callable[[], Awaitable[EventDataStore]]) -> EventDataStore:
        try:
            async with self.turn:
                changed = await retry_on_conflict(attempt, _CHANGED)
        except Conflict as error:
            raise CloudTrailError("ConflictException", _CHANGED) from error
        self.changed.set()
        return changed

    async def change(
        self, store: EventDataStore, change: Callable[[EventDataStore], EventDataStore]
    ) -> EventDataStore:
        """Changes a store, and returns it with the change in effect.

        Raises:
            CloudTrailError: `EventDataStoreAlreadyExistsException` for the name of another one,
                `EventDataStoreNotFoundException`, or `ConflictException`.
        """

        async def attempt() -> EventDataStore:
            item = await self._collection.find(store.key)
            if item is None:
                raise not_found(store.id)
            # The worker of a cluster replaces the document with each file that it lists.
            changed = change(item.value).with_phase(await self._newest())
            fences = [] if changed.name == item.value.name else [await self._fence(store)]
            others = await self.of(store.account, store.region)
            _check_name(changed, [other for other in others if other.id != store.id])
            await self._collection.apply([self._collection.replacement(item, changed), *fences])
            return changed

        return await self._in_turn(attempt)

    async def routed(self, channel: CloudTrailArn, destinations: Sequence[str]) -> list[StoreWrite]:
        """Returns the changes after which only these stores have the events of a channel.

        The caller holds `turn`, and applies them together with the channel's change.

        Args:
            channel: the channel.
            destinations: ids of stores of its account and Region.

        Raises:
            CloudTrailError: `EventDataStoreNotFoundException`,
                `InvalidEventDataStoreCategoryException`, or `InactiveEventDataStoreException`.
        """
        place = (channel.account, channel.region)
        items = {
            item.value.id: item
            for item in await self._collection.items()
            if (item.value.account, item.value.region) == place
        }
        for destination in destinations:
            if destination not in items:
                raise not_found(destination)
            _check_destination(items[destination].value)
        changes, newest, arn = list[StoreWrite](), await self._newest(), str(channel)
        for item in items.values():
            former = item.value.channels
            channels = tuple(each for each in former if each != arn)
            if item.value.id in destinations:
                channels = (*channels, arn)
            if {*channels} != {*former}:
                changed = replace(item.value, channels=channels).with_phase(newest)
                changes.append(self._collection.replacement(item, changed))
        return changes

    async def current(self, store: EventDataStore) -> tuple[EventDataStore, int]:
        """Returns a store with all its phases, and the position up to which they are known.

        Raises:
            CloudTrailError: `EventDataStoreNotFoundException`.
        """
        async with self.turn:
            item = await self._collection.find(store.key)
            if item is None:
                raise not_found(store.id)
            return item.value, await self._newest()

    async def remove(self, store: EventDataStore) -> None:
        """Removes a store, and what belongs to it."""
        changes = [*self._collection.removals([store.key]), *self._removals(store)]
        await self._collection.apply(changes)

    async def add_to(
        self, tables: QueryTables, statement: str, accounts: Sequence[str] | None, region: str
    ) -> QueryTables:
        """Returns the tables, and the stores of `named_in` with the position that they have."""
        async with self.turn:
            stores = await self.named_in(statement, accounts, region)
            until = await self._newest() if stores else 0
        return tables._replace(stores=stores, until=until)

    async def visible(self, accounts: Sequence[str] | None, region: str) -> list[EventDataStore]:
        """Returns the stores that a caller may query, by name.

        Args:
            accounts: the owners of the stores; None: all.
            region: the Region of the stores, or `EVERY_REGION`.
        """
        now = self._clock.now()
        stores = [
            store
            for store in await self.all()
            if (accounts is None or store.account in accounts)
            and region in (EVERY_REGION, store.region)
            and not store.is_gone(now)
        ]
        return sorted(stores, key=lambda store: (store.name.lower(), store.id))

    async def named_in(
        self, statement: str, accounts: Sequence[str] | None, region: str
    ) -> dict[str, EventDataStore]:
        """Returns the stores that a statement reads, by the id or name in it, in lower case.

        A name that several stores have is none.

        Args:
            statement: SQL.
            accounts: the owners of the stores; None: all.
            region: the Region of the stores, or `EVERY_REGION`.
        """
        names = await tables_of(statement)
        stores = await self.visible(accounts, region) if names else []
        unique = unique_names(stores)
        named = {store.id: store for store in stores if store.id in names}
        for store in stores:
            name = store.name.lower()
            if name in unique and name in names:
                named.setdefault(name, store)
        return named

    async def read_by(self, statement: str, account: str, region: str) -> list[CloudTrailArn]:
        """Returns the stores of an account that a statement reads, `event_history` among them.

        An id that no store has counts, too: the query will find no table.
        """
        names = await tables_of(statement)
        named = await self.named_in(statement, [account], region)
        ids = {store.id for store in named.values()}
        ids.update(filter(_ID.fullmatch, names))
        if NAME in names:
            ids.add(store_id(account))
        return [CloudTrailArn(STORE, region, account, each) for each in sorted(ids)]


async def tables_of(statement: str) -> frozenset[str]:
    """Returns the names of the tables that a statement reads; none if it is not valid."""
    try:
        return await asyncio.to_thread(tables_in, statement)
    except StatementRefused:
        return frozenset()


def unique_names(stores: Sequence[EventDataStore]) -> set[str]:
    """Returns the names that only one of the stores has, in lower case: statements may use them."""
    counts = Counter(store.name.lower() for store in stores)
    return {name for name, count in counts.items() if count == 1}


def table_names(stores: Sequence[EventDataStore]) -> dict[str, str]:
    """Returns the names of stores in statements, by id: their names if unique, otherwise ids."""
    unique = unique_names(stores)
    return {
        store.id: f'"{store.name if store.name.lower() in unique else store.id}"'
        for store in stores
    }


def not_found(given: str) -> CloudTrailError:
    """Returns the error of a missing store."""
    return CloudTrailError(
        "EventDataStoreNotFoundException", f"Event data store {given} does not exist."
    )


def inactive(store: EventDataStore) -> CloudTrailError:
    """Returns the error of a store that is being deleted."""
    return CloudTrailError(
        "InactiveEventDataStoreException",
        f"Event data store {store.name} is in status {store.status}.",
    )


def wrong_destination(name: str, category: str) -> CloudTrailError:
    """Returns the error of a store whose events are not from channels."""
    return CloudTrailError(
        "InvalidEventDataStoreCategoryException",
        f"Event data store {name} has {category} events; the destination of a channel must have "
        f"{ACTIVITY} events.",
    )


def _check_destination(store: EventDataStore) -> None:
    if store.deleted_at is not None:
        raise inactive(store)
    if store.category != ACTIVITY:
        raise wrong_destination(store.name, store.category)


def _check_name(store: EventDataStore, others: Sequence[EventDataStore]) -> None:
    if store.name.lower() in (NAME, *(other.name.lower() for other in others)):
        raise CloudTrailError(
            "EventDataStoreAlreadyExistsException",
            f"An event data store with the name {store.name} already exists.",
        )


def _check_quota(count: int, store: EventDataStore) -> None:
    if count >= QUOTA:
        raise CloudTrailError(
            "EventDataStoreMaxLimitExceededException",
            f"User: {store.account} already has {QUOTA} event data stores in {store.region}.",
        )
