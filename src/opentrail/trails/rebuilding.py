"""Makes the trails of a lost control store again from the recorded calls that made them."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from opentrail.core.cloudtrail_arns import TRAIL, CloudTrailArn, read_cloudtrail_arn
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Record, as_object, parse_time
from opentrail.core.insight_selectors import insight_selectors
from opentrail.core.selectors import SelectorOwner, read_selection
from opentrail.core.tags import read_tags, with_tags, without_tags
from opentrail.core.trail import Trail, stored_time

#: Members of the answers of CreateTrail and UpdateTrail, and the settings that they show.
_TEXTS = {
    "s3BucketName": "bucket",
    "s3KeyPrefix": "prefix",
    "snsTopicName": "topic_name",
    "snsTopicARN": "topic",
    "cloudWatchLogsLogGroupArn": "log_group",
    "cloudWatchLogsRoleArn": "log_role",
    "kmsKeyId": "kms_key",
}
#: Calls that change what is delivered, or where.
_OF_DELIVERY = ("UpdateTrail", "PutEventSelectors", "PutInsightSelectors")
_FLAGS = {
    "includeGlobalServiceEvents": "include_global_services",
    "isMultiRegionTrail": "multi_region",
    "logFileValidationEnabled": "validation",
}


class TrailRebuilding:
    """Follows the calls on trails, in the order of the journal.

    Args:
        known: ARN of each trail → members of its document that no call has: `uid` and
            `organization`. A trail whose `uid` is known goes on delivering where it was; another
            one delivers what comes from now on.
    """

    def __init__(self, known: Mapping[str, Mapping[str, Any]]) -> None:
        self._known = known
        self._trails: dict[str, Trail] = {}

    def add(self, position: int, record: Record) -> None:
        """Follows a call; calls that failed or are about something else change nothing."""
        name = str(record.get("eventName"))
        if record.get("eventSource") != "cloudtrail.amazonaws.com" or record.get("errorCode"):
            return
        asked = as_object(record.get("requestParameters"))
        answer = as_object(record.get("responseElements"))
        arn = str(answer.get("trailARN") or _named(record, asked))
        now = stored_time(parse_time(str(record["eventTime"])))
        read = read_cloudtrail_arn(arn)
        if read is None or read.type != TRAIL:
            return
        if name == "CreateTrail":
            self._trails[arn] = self._created(read, now, asked, answer)
        elif name == "DeleteTrail":
            self._trails.pop(arn, None)
        elif (trail := self._trails.get(arn)) is not None:
            try:
                changed = _changed(trail, name, asked, answer, now)
            except (CloudTrailError, KeyError, TypeError):
                return  # of a version with other forms
            if name == "StartLogging" and not trail.logging:
                changed = changed.started(position - 1, now)
            elif name in _OF_DELIVERY and trail.logging:
                event_id = str(record["eventID"])
                changed = changed.reconfigured(event_id, position - 1, now)
                changed = changed.settled(event_id, position)
            self._trails[arn] = changed

    def trails(self, head: int, now: datetime) -> list[Trail]:
        """Returns the trails that there are after the last call.

        Args:
            head: the last position of the journal.
            now: the time.
        """
        found = []
        for arn, trail in self._trails.items():
            known = self._known.get(arn, {})
            is_of_organization = trail.organization != ""
            if is_of_organization and not known.get("organization"):
                continue  # it is unknown of which organization
            ready = replace(trail, organization=str(known.get("organization", "")))
            # What the spans before had to deliver was delivered.
            spans = ready.spans[-1:] if ready.logging else ()
            if spans:
                first = replace(spans[0], continues=False, organization=ready.organization)
                spans = (first,)
                if not known.get("uid"):
                    started = stored_time(now)
                    spans = (replace(first, after=head, started_at=started),)
                    ready = replace(ready, started_at=started)
            found.append(replace(ready, spans=spans))
        return found

    def _created(
        self, read: CloudTrailArn, now: str, asked: Mapping[str, Any], answer: Mapping[str, Any]
    ) -> Trail:
        known = self._known.get(str(read), {})
        trail = Trail(
            uid=str(known.get("uid") or uuid.uuid4()),
            name=read.name,
            account=read.account,
            home_region=read.region,
            bucket=str(answer["s3BucketName"]),
            created_at=now,
            tags=with_tags((), read_tags(_as_input(asked.get("tagsList", ())))),
        )
        return _with_settings(trail, answer)


def _changed(
    trail: Trail, name: str, asked: Mapping[str, Any], answer: Mapping[str, Any], now: str
) -> Trail:
    """Returns a trail after a call, with its former spans; the same if the call changes nothing."""
    if name == "UpdateTrail":
        return _with_settings(trail, answer)
    if name == "StopLogging":
        return replace(trail, logging=False, stopped_at=now)
    if name == "PutEventSelectors":
        selection = read_selection(_as_input(answer), SelectorOwner.TRAIL)
        return replace(trail, selectors=selection.document())
    if name == "PutInsightSelectors":
        selectors = insight_selectors(_as_input(answer["insightSelectors"]))
        return replace(trail, insight_selectors=[each.to_json() for each in selectors])
    if name == "AddTags":
        return replace(trail, tags=with_tags(trail.tags, read_tags(_as_input(asked["tagsList"]))))
    if name == "RemoveTags":
        removed = [str(each["key"]) for each in asked["tagsList"]]
        return replace(trail, tags=without_tags(trail.tags, removed))
    return trail


def _with_settings(trail: Trail, answer: Mapping[str, Any]) -> Trail:
    """Returns a trail with the settings that CreateTrail or UpdateTrail has answered."""
    texts = {name: str(answer.get(member) or "") for member, name in _TEXTS.items()}
    flags = {name: bool(answer.get(member)) for member, name in _FLAGS.items()}
    organization = "of an organization" if answer.get("isOrganizationTrail") else ""
    return replace(trail, **texts, **flags, organization=organization)  # type: ignore[arg-type]


def _named(record: Record, asked: Mapping[str, Any]) -> str:
    """Returns the ARN of the trail that a call names by name or ARN."""
    given = str(asked.get("name") or asked.get("trailName") or asked.get("resourceId") or "")
    if given.startswith("arn:"):
        return given
    account, region = record.get("recipientAccountId"), record.get("awsRegion")
    return f"arn:aws:cloudtrail:{region}:{account}:trail/{given}"


def _as_input(recorded: Any) -> Any:
    """Returns members with the names that they have in requests: records write them small."""
    if isinstance(recorded, Mapping):
        return {key[:1].upper() + key[1:]: _as_input(value) for key, value in recorded.items()}
    if isinstance(recorded, list | tuple):
        return [_as_input(value) for value in recorded]
    return recorded
