"""The trails of every account, stored in the control store."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

from opentrail.core.arns import TRAIL, CloudTrailArn, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError, Conflict
from opentrail.core.organization import not_management_account
from opentrail.core.trail import Span, Trail, check_trail_name
from opentrail.ports.control import ControlStore, Put, Remove, StoreWrite
from opentrail.trails.outbox import removals_of

#: Trails per Region, shadow trails counted (cloudtrail-format §8.5).
QUOTA = 5
_TRIES = 5


@dataclass(frozen=True, slots=True)
class StoredTrail:
    """A trail and the version that was read."""

    trail: Trail
    version: int


class TrailRegistry:
    """Finds, adds, changes and retires trails. A retired trail only delivers its backlog."""

    def __init__(self, control: ControlStore, quota: int = QUOTA) -> None:
        """Opens the registry.

        Args:
            control: where the trails are.
            quota: maximum trails in a Region, shadow trails counted.
        """
        self._control = control
        self._quota = quota
        self._adding = asyncio.Lock()

    async def all(self, account: str | None = None) -> list[StoredTrail]:
        """Returns the trails that an account sees, or all, by account, Region and name.

        These are its own and the trails of its organization.
        """
        trails = await self._all("trail")
        return [t for t in trails if account is None or t.trail.is_visible_to(account)]

    async def retired(self) -> list[StoredTrail]:
        """Returns deleted trails that may have something left to deliver."""
        return await self._all("retired-trail")

    async def _all(self, kind: str) -> list[StoredTrail]:
        stored = await self._control.scan(kind)
        return [StoredTrail(Trail.from_document(s.document), s.version) for s in stored]

    async def all_and_retired(self) -> list[StoredTrail]:
        """Returns all trails that have events to deliver, also deleted ones."""
        return [*await self.all(), *await self.retired()]

    async def visible(self, account: str, region: str) -> list[StoredTrail]:
        """Returns the trails and shadow trails of a Region."""
        trails = await self.all(account)
        return [t for t in trails if t.trail.home_region == region or t.trail.multi_region]

    async def find(self, account: str, region: str, name_or_arn: str) -> StoredTrail:
        """Returns a trail by ARN, or by name in its home Region.

        An account finds the trails of its organization by their ARNs only, as on AWS.

        Raises:
            CloudTrailError: `TrailNotFoundException`, `InvalidTrailNameException`,
                `CloudTrailARNInvalidException`.
        """
        owner, home, name = account, region, name_or_arn
        if name_or_arn.startswith("arn:"):
            arn = read_cloudtrail_arn(name_or_arn)
            if arn is None or arn.type != TRAIL:
                raise CloudTrailError(
                    "CloudTrailARNInvalidException", f"Trail ARN is not valid: {name_or_arn}"
                )
            owner, home, name = arn.account, arn.region, arn.name
        check_trail_name(name)
        stored = await self._control.get("trail", _key(owner, home, name))
        trail = Trail.from_document(stored.document) if stored else None
        if stored is None or trail is None or not trail.is_visible_to(account):
            raise trail_not_found(str(CloudTrailArn(TRAIL, home, owner, name)), account)
        return StoredTrail(trail, stored.version)

    async def find_at_home(
        self, account: str, region: str, name_or_arn: str, administrates: bool = False
    ) -> StoredTrail:
        """Returns a trail to be changed: only its account and home Region may.

        Args:
            account: who changes it.
            region: where.
            name_or_arn: as for `find`.
            administrates: whether the account may also change the trails of its organization.

        Raises:
            CloudTrailError: as `find`, `NotOrganizationMasterAccountException`, and
                `InvalidHomeRegionException`.
        """
        stored = await self.find(account, region, name_or_arn)
        if stored.trail.account != account and not administrates:
            raise not_management_account()
        if stored.trail.home_region != region:
            raise CloudTrailError(
                "InvalidHomeRegionException",
                f"Trail {stored.trail.arn} can only be changed in its home Region "
                f"{stored.trail.home_region}.",
            )
        return stored

    async def add(self, trail: Trail) -> None:
        """Adds a trail.

        Raises:
            CloudTrailError: `TrailAlreadyExistsException`,
                `MaximumNumberOfTrailsExceededException`.
        """
        async with self._adding:
            await self.check_room(trail)
            put = Put("trail", key_of(trail), trail.document(), expected=0)
            try:
                await self._control.apply([put])
            except Conflict as error:
                raise _changed() from error

    async def check_room(self, trail: Trail, is_new: bool = True) -> None:
        """Returns if a trail may be added, or may become visible in all Regions.

        Raises:
            CloudTrailError: as `add`.
        """
        own = [t.trail for t in await self.all(trail.account) if t.trail.account == trail.account]
        visible = [t for t in own if t.home_region == trail.home_region or t.multi_region]
        if is_new and any(other.name == trail.name for other in visible):
            raise CloudTrailError(
                "TrailAlreadyExistsException",
                f"Trail {trail.name} already exists for customer: {trail.account}",
            )
        others = [other for other in own if other.uid != trail.uid]
        elsewhere = {other.home_region for other in others} if trail.multi_region else set()
        for region in (trail.home_region, *sorted(elsewhere - {trail.home_region})):
            count = sum(other.multi_region or other.home_region == region for other in others)
            if count >= self._quota:
                raise CloudTrailError(
                    "MaximumNumberOfTrailsExceededException",
                    f"User: {trail.account} already has {self._quota} trails in {region}.",
                )

    async def change(self, stored: StoredTrail, new: Trail) -> None:
        """Writes a trail that was read as `stored`.

        Concurrent changes of its spans by delivery stay.

        Raises:
            CloudTrailError: `ConflictException` if it was changed since it was read.
        """

        def changes(version: int, trail: Trail) -> list[StoreWrite]:
            return [Put("trail", key_of(trail), trail.document(), expected=version)]

        await self._rebase(stored, new, changes)

    async def retire(self, stored: StoredTrail, closed: Trail) -> None:
        """Deletes a trail; `closed` is stored until it has delivered everything."""
        key = key_of(stored.trail)

        def changes(version: int, trail: Trail) -> list[StoreWrite]:
            return [
                Put("trail", key, trail.document(), expected=version),
                Remove("trail", key),
                Put("retired-trail", trail.uid, trail.document(), expected=0),
            ]

        await self._rebase(stored, closed, changes)

    async def _rebase(
        self,
        stored: StoredTrail,
        new: Trail,
        changes: Callable[[int, Trail], list[StoreWrite]],
    ) -> None:
        for _ in range(_TRIES):
            try:
                await self._control.apply(changes(stored.version, new))
                return
            except Conflict:
                current = await self._control.get("trail", key_of(stored.trail))
            if current is None:
                break
            fresh = Trail.from_document(current.document)
            if replace(fresh, spans=()) != replace(stored.trail, spans=()):
                break
            new = replace(new, spans=_merge_spans(stored.trail, new, fresh))
            stored = StoredTrail(fresh, current.version)
        raise _changed()

    async def amend(self, uid: str, amend: Callable[[Trail], Trail]) -> Trail | None:
        """Applies `amend` to a trail, retired or not; retries if it was changed concurrently."""
        for _ in range(_TRIES):
            for kind in ("trail", "retired-trail"):
                for stored in await self._control.scan(kind):
                    if stored.document["uid"] != uid:
                        continue
                    amended = amend(Trail.from_document(stored.document))
                    put = Put(kind, stored.key, amended.document(), expected=stored.version)
                    try:
                        await self._control.apply([put])
                    except Conflict:
                        break
                    return amended
        return None

    async def forget(self, uid: str) -> None:
        """Removes a retired trail that has delivered everything."""
        documents = [
            Remove(kind, stored.key)
            for kind in ("chain", "log", "plan")
            for stored in await self._control.scan(kind, f"{uid}/")
        ]
        notes = await removals_of(self._control, uid)
        await self._control.apply(
            [
                Remove("retired-trail", uid),
                Remove("delivery", uid),
                Remove("undelivered", uid),
                *documents,
                *notes,
            ]
        )


def _changed() -> CloudTrailError:
    return CloudTrailError(
        "ConflictException", "The trail was changed by another request; try again."
    )


def _merge_spans(before: Trail, trail: Trail, fresh: Trail) -> tuple[Span, ...]:
    """Returns the spans of a changed trail, merged with delivery's concurrent changes.

    Delivery fills in the ends of spans, and removes finished spans. The start time identifies
    a span.
    """
    old = {span.started_at: span for span in before.spans}
    current = {span.started_at: span for span in fresh.spans}
    spans = []
    for span in trail.spans:
        if span.started_at not in old:
            spans.append(span)
        elif span.started_at in current:
            closing = span.closing_event if span != old[span.started_at] else None
            span_now = current[span.started_at]
            spans.append(replace(span_now, closing_event=closing) if closing else span_now)
    return tuple(spans)


def key_of(trail: Trail) -> str:
    """Returns the key of a trail's document."""
    return _key(trail.account, trail.home_region, trail.name)


def _key(account: str, region: str, name: str) -> str:
    return f"{account}/{region}/{name}"


def trail_not_found(arn: str, account: str) -> CloudTrailError:
    """Returns the error of a trail that an account does not have."""
    return CloudTrailError(
        "TrailNotFoundException", f"Unknown trail: {arn} for the user: {account}"
    )
