"""Restores the trails of a lost control store from the journal.

The server learns identities from records again at its next start.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.duckdb.calls_at_rest import calls_of
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.app.inventory import standing_of
from opentrail.core.arns import TRAIL, CloudTrailArn, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Record, as_object, parse_time
from opentrail.core.insight_types import insight_selectors
from opentrail.core.selectors import SelectorOwner, read_selection
from opentrail.core.trail import Trail, read_tags, stored_time, with_tags, without_tags
from opentrail.ports.control import Put
from opentrail.ports.journal import JournalSource
from opentrail.trails.registry import key_of

_SOURCE = "cloudtrail.amazonaws.com"


async def rebuild_trails(data: DataDirectory, journal: JournalSource) -> list[Trail]:
    """Adds trails from recorded calls that are missing in `state.db`; returns them.

    No server may run at the same time: the directory is locked.

    Args:
        data: the data directory.
        journal: its journal.

    Raises:
        DataDirectoryInUse: a server runs.
        StorageFailed: something cannot be read or written.
    """
    data.open()
    try:
        standing = await standing_of(data, None, is_live=False)
        settings = standing.inventory.trails if standing.inventory else {}
        trails = await asyncio.to_thread(_trails, data, journal, settings, standing.written)
        control = SqlControl.in_file(data.state)
        try:
            keys = {stored.key for stored in await control.scan("trail")}
            new = [trail for trail in trails if key_of(trail) not in keys]
            puts = [Put("trail", key_of(trail), trail.document(), expected=0) for trail in new]
            await control.apply(puts)
        finally:
            await control.close()
    finally:
        data.close()
    return new


def _trails(
    data: DataDirectory,
    journal: JournalSource,
    settings: Mapping[str, Mapping[str, Any]],
    last: int,
) -> list[Trail]:
    rebuilding = TrailRebuilding(settings)
    for position, record in calls_of(journal, data.history, _SOURCE):
        rebuilding.add(position, record)
        last = max(last, position)
    return rebuilding.trails(last, SystemClock().now())


#: Members of the answers of CreateTrail and UpdateTrail → settings.
_TEXTS = {
    "s3BucketName": "bucket",
    "s3KeyPrefix": "prefix",
    "snsTopicName": "topic_name",
    "snsTopicARN": "topic",
    "cloudWatchLogsLogGroupArn": "log_group",
    "cloudWatchLogsRoleArn": "log_role",
    "kmsKeyId": "kms_key",
}
#: Calls that change the content or destination of deliveries.
_OF_DELIVERY = ("UpdateTrail", "PutEventSelectors", "PutInsightSelectors")
_FLAGS = {
    "includeGlobalServiceEvents": "include_global_services",
    "isMultiRegionTrail": "multi_region",
    "logFileValidationEnabled": "validation",
}


class TrailRebuilding:
    """Follows the calls on trails, in the order of the journal.

    Args:
        settings: ARN of each trail → the members of its document that no call has: `uid` and
            `organization`. A trail with a known `uid` continues its delivery; any other
            delivers only later events.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]]) -> None:
        self._settings = settings
        self._trails: dict[str, Trail] = {}

    def add(self, position: int, record: Record) -> None:
        """Follows a call; ignores failed calls and other subjects."""
        name = str(record.get("eventName"))
        if record.get("eventSource") != "cloudtrail.amazonaws.com" or record.get("errorCode"):
            return
        parameters = as_object(record.get("requestParameters"))
        answer = as_object(record.get("responseElements"))
        arn = str(answer.get("trailARN") or _arn_in(record, parameters))
        now = stored_time(parse_time(str(record["eventTime"])))
        trail_arn = read_cloudtrail_arn(arn)
        if trail_arn is None or trail_arn.type != TRAIL:
            return
        if name == "CreateTrail":
            self._trails[arn] = self._create(trail_arn, now, parameters, answer)
        elif name == "DeleteTrail":
            self._trails.pop(arn, None)
        elif (trail := self._trails.get(arn)) is not None:
            try:
                updated = _apply_call(trail, name, parameters, answer, now)
            except (CloudTrailError, KeyError, TypeError):
                return  # from a version with other forms
            if name == "StartLogging" and not trail.logging:
                updated = updated.started(position - 1, now)
            elif name in _OF_DELIVERY and trail.logging:
                event_id = str(record["eventID"])
                updated = updated.reconfigured(event_id, position - 1, now)
                updated = updated.with_closed_span(event_id, position)
            self._trails[arn] = updated

    def trails(self, head: int, now: datetime) -> list[Trail]:
        """Returns the trails that exist after the last call.

        Args:
            head: the last position of the journal.
            now: the time.
        """
        trails = []
        for arn, trail in self._trails.items():
            settings = self._settings.get(arn, {})
            is_of_organization = trail.organization != ""
            if is_of_organization and not settings.get("organization"):
                continue  # its organization is unknown
            ready = replace(trail, organization=str(settings.get("organization", "")))
            # The earlier spans are fully delivered.
            spans = ready.spans[-1:] if ready.logging else ()
            if spans:
                first = replace(spans[0], continues=False, organization=ready.organization)
                spans = (first,)
                if not settings.get("uid"):
                    started = stored_time(now)
                    spans = (replace(first, after=head, started_at=started),)
                    ready = replace(ready, started_at=started)
            trails.append(replace(ready, spans=spans))
        return trails

    def _create(
        self,
        trail_arn: CloudTrailArn,
        now: str,
        parameters: Mapping[str, Any],
        answer: Mapping[str, Any],
    ) -> Trail:
        settings = self._settings.get(str(trail_arn), {})
        trail = Trail(
            uid=str(settings.get("uid") or uuid.uuid4()),
            name=trail_arn.name,
            account=trail_arn.account,
            home_region=trail_arn.region,
            bucket=str(answer["s3BucketName"]),
            created_at=now,
            tags=with_tags((), read_tags(_as_input(parameters.get("tagsList", ())))),
        )
        return _with_settings(trail, answer)


def _apply_call(
    trail: Trail, name: str, parameters: Mapping[str, Any], answer: Mapping[str, Any], now: str
) -> Trail:
    """Returns a trail after a call, with its earlier spans; the same trail if nothing changes."""
    if name == "UpdateTrail":
        return _with_settings(trail, answer)
    if name == "StopLogging":
        return replace(trail, logging=False, stopped_at=now)
    if name == "PutEventSelectors":
        selection = read_selection(_as_input(answer), SelectorOwner.TRAIL)
        return replace(trail, selectors=selection.document())
    if name == "PutInsightSelectors":
        selectors = insight_selectors(_as_input(answer["insightSelectors"]))
        return replace(trail, insight_selectors=[selector.to_json() for selector in selectors])
    if name == "AddTags":
        added = read_tags(_as_input(parameters["tagsList"]))
        return replace(trail, tags=with_tags(trail.tags, added))
    if name == "RemoveTags":
        removed = [str(tag["key"]) for tag in parameters["tagsList"]]
        return replace(trail, tags=without_tags(trail.tags, removed))
    return trail


def _with_settings(trail: Trail, answer: Mapping[str, Any]) -> Trail:
    """Returns a trail with the settings in an answer of CreateTrail or UpdateTrail."""
    texts = {name: str(answer.get(member) or "") for member, name in _TEXTS.items()}
    flags = {name: bool(answer.get(member)) for member, name in _FLAGS.items()}
    organization = "of an organization" if answer.get("isOrganizationTrail") else ""
    return replace(trail, **texts, **flags, organization=organization)  # type: ignore[arg-type]


def _arn_in(record: Record, parameters: Mapping[str, Any]) -> str:
    """Returns the ARN of the trail that a call names by name or ARN."""
    name = str(
        parameters.get("name") or parameters.get("trailName") or parameters.get("resourceId") or ""
    )
    if name.startswith("arn:"):
        return name
    account, region = record.get("recipientAccountId"), record.get("awsRegion")
    return f"arn:aws:cloudtrail:{region}:{account}:trail/{name}"


def _as_input(recorded: Any) -> Any:
    """Returns members under their request names; records have a lowercase initial."""
    if isinstance(recorded, Mapping):
        return {key[:1].upper() + key[1:]: _as_input(value) for key, value in recorded.items()}
    if isinstance(recorded, list | tuple):
        return [_as_input(value) for value in recorded]
    return recorded
