"""The channels of every account, and what they last received, in the control store."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

from opentrail.core.arns import CHANNEL, CloudTrailArn, read_cloudtrail_arn
from opentrail.core.channel import Channel, IngestionStatus
from opentrail.core.errors import CloudTrailError, Conflict
from opentrail.lake.store_registry import Stores
from opentrail.ports.collection import Codec, Collection, retry_on_conflict
from opentrail.ports.control import ControlStore, Put, StoreWrite

CHANNEL_KIND = "channel"
#: Kind of the documents of what channels last received; a key is that of the channel.
STATUS_KIND = "channel-status"
#: Maximum channels of an account in a Region, as in AWS.
MAX_CHANNELS = 25
_CHANGED = "The channel was changed by another request; try again."


class Channels:
    """Finds, adds, changes and removes channels.

    A change of destinations is in effect after the last position of the journal at that time.

    Args:
        control: has the channels' documents.
        stores: the destinations.
        removals: returns the changes that remove what belongs to a channel.
    """

    def __init__(
        self,
        control: ControlStore,
        stores: Stores,
        removals: Callable[[CloudTrailArn], list[StoreWrite]] = lambda _: [],
    ) -> None:
        codec = Codec(
            lambda stored: Channel.from_document(stored.document),
            lambda channel: channel.document(),
        )
        self._collection = Collection(control, CHANNEL_KIND, codec, "channel")
        self._statuses = Collection(control, STATUS_KIND, Codec.of(IngestionStatus), "status")
        self._stores = stores
        self._removals = removals
        #: Key of a channel → what it received since the last `save_statuses`.
        self._unsaved: dict[str, IngestionStatus] = {}

    async def of(self, account: str, region: str) -> list[Channel]:
        """Returns the channels of an account and Region, by name."""
        channels = [
            channel
            for channel in await self._collection.all()
            if (channel.account, channel.region) == (account, region)
        ]
        return sorted(channels, key=lambda channel: (channel.name.lower(), channel.id))

    async def find(self, account: str, region: str, given: str) -> Channel:
        """Returns a channel of an account and Region by ARN or id.

        Raises:
            CloudTrailError: `ChannelARNInvalidException` or `ChannelNotFoundException`.
        """
        name = given
        if given.startswith("arn:"):
            arn = read_cloudtrail_arn(given)
            if arn is None or arn.type != CHANNEL:
                message = f"{given} is not the ARN of a channel."
                raise CloudTrailError("ChannelARNInvalidException", message)
            name = arn.name if (arn.account, arn.region) == (account, region) else ""
        found = await self.at(CloudTrailArn(CHANNEL, region, account, name)) if name else None
        if found is None:
            raise _not_found(given)
        return found

    async def at(self, arn: CloudTrailArn) -> Channel | None:
        """Returns the channel with an ARN; None if there is none."""
        item = await self._collection.find(f"{arn.account}/{arn.region}/{arn.name}")
        return item.value if item else None

    async def add(self, channel: Channel) -> None:
        """Adds a channel.

        Raises:
            CloudTrailError: `ChannelAlreadyExistsException`, `ChannelMaxLimitExceededException`,
                `ConflictException`, or as `Stores.routed`.
        """

        async def attempt() -> None:
            fence = await self._fence(channel)
            others = await self.of(channel.account, channel.region)
            if len(others) >= MAX_CHANNELS:
                raise CloudTrailError(
                    "ChannelMaxLimitExceededException",
                    f"User: {channel.account} already has {MAX_CHANNELS} channels in "
                    f"{channel.region}.",
                )
            _check_unique(channel, others)
            routes = await self._stores.routed(channel.arn, channel.stores)
            addition = self._collection.addition(channel.key, channel)
            await self._collection.apply([addition, *routes, fence])

        await self._in_turn(attempt)

    async def change(self, channel: Channel, change: Callable[[Channel], Channel]) -> Channel:
        """Changes a channel, and returns it with the change in effect.

        Raises:
            CloudTrailError: `ChannelNotFoundException`, or as `add`.
        """
        changed = channel

        async def attempt() -> None:
            nonlocal changed
            item = await self._collection.find(channel.key)
            if item is None:
                raise _not_found(channel.id)
            changed = change(item.value)
            fence = await self._fence(channel)
            others = await self.of(channel.account, channel.region)
            _check_unique(changed, [other for other in others if other.id != channel.id])
            routes = await self._stores.routed(changed.arn, changed.stores)
            replacement = self._collection.replacement(item, changed)
            await self._collection.apply([replacement, *routes, fence])

        await self._in_turn(attempt)
        return changed

    async def remove(self, channel: Channel) -> None:
        """Removes a channel, and what belongs to it; its events stay in the stores.

        Raises:
            CloudTrailError: `ConflictException`.
        """

        async def attempt() -> None:
            routes = await self._stores.routed(channel.arn, ())
            removed = [
                *self._collection.removals([channel.key]),
                *self._statuses.removals([channel.key]),
                *self._removals(channel.arn),
            ]
            await self._collection.apply([*removed, *routes])

        await self._in_turn(attempt)
        self._unsaved.pop(channel.key, None)

    async def _fence(self, channel: Channel) -> Put:
        """Returns the fence of the names and sources in an account and Region."""
        return await self._collection.fence(f"{channel.account}/{channel.region}")

    async def _in_turn(self, attempt: Callable[[], Awaitable[None]]) -> None:
        try:
            async with self._stores.turn:
                await retry_on_conflict(attempt, _CHANGED)
        except Conflict as error:
            raise CloudTrailError("ConflictException", _CHANGED) from error
        self._stores.changed.set()

    # What channels received

    def note(self, channel: Channel, status: IngestionStatus) -> None:
        """Notes what a channel received; `save_statuses` stores it."""
        self._unsaved[channel.key] = status.after(self._unsaved.get(channel.key))

    async def status(self, channel: Channel) -> IngestionStatus | None:
        """Returns what a channel last received on any server; None if nothing."""
        item, own = await self._statuses.find(channel.key), self._unsaved.get(channel.key)
        stored = item.value if item else None
        return _latest(stored, own) if own else stored

    async def save_statuses(self) -> None:
        """Stores what the existing channels have received on this server."""
        for key, status in list(self._unsaved.items()):
            if await self._collection.find(key) is not None:
                item = await self._statuses.find(key)
                await self._statuses.put(key, _latest(item.value if item else None, status))
            if self._unsaved.get(key) is status:  # nothing newer arrived
                del self._unsaved[key]


def _latest(one: IngestionStatus | None, other: IngestionStatus) -> IngestionStatus:
    if one is not None and one.attempted_at > other.attempted_at:
        return one.after(other)
    return other.after(one)


def with_settings(channel: Channel, name: str | None, stores: Sequence[str] | None) -> Channel:
    """Returns a channel with a new name, new destinations, or both."""
    return replace(
        channel,
        name=channel.name if name is None else name,
        stores=channel.stores if stores is None else tuple(stores),
    )


def _check_unique(channel: Channel, others: Sequence[Channel]) -> None:
    for other in others:
        if other.name.lower() == channel.name.lower():
            raise _exists(f"name {channel.name}")
        if other.source == channel.source:
            raise _exists(f"source {channel.source}")


def _exists(what: str) -> CloudTrailError:
    return CloudTrailError(
        "ChannelAlreadyExistsException", f"A channel with the {what} already exists."
    )


def _not_found(given: str) -> CloudTrailError:
    return CloudTrailError("ChannelNotFoundException", f"Channel {given} does not exist.")
