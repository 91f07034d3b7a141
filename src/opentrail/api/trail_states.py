"""Trails with their health, as the web console and `opentrail trail` show them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypedDict

from opentrail.core.errors import CloudTrailError
from opentrail.core.trail import Trail, shown_time
from opentrail.ports.control import ControlStore
from opentrail.trails.comparison import STRANGERS
from opentrail.trails.plans import load_state
from opentrail.trails.registry import TrailRegistry


class TrailState(TypedDict):
    """A trail's settings, its status (Off, Logging, Failing) and its last deliveries."""

    arn: str
    name: str
    account: str
    bucket: str
    prefix: str
    homeRegion: str
    multiRegion: bool
    logging: bool
    status: Literal["Off", "Logging", "Failing"]
    reason: str | None
    latestDelivery: str | None
    latestDigest: str | None
    validation: bool
    insights: bool
    #: None: files are encrypted as the bucket says.
    kmsKey: str | None
    #: ARN of the topic that announces files.
    topic: str | None
    #: ARN of the log group that events are sent to.
    logGroup: str | None


async def trail_state(control: ControlStore, trail: Trail) -> TrailState:
    """Returns a trail's settings, its status (Off, Logging, Failing) and its last deliveries."""
    state = await load_state(control, trail.uid)
    failing = state.latest_error or state.latest_digest_error
    reason = failing or (state.new_chain_reason if state.is_new_chain_current(trail) else None)
    reason = reason or await _strangers(control, trail)
    status: Literal["Off", "Logging", "Failing"] = "Off"
    if trail.logging:
        status = "Failing" if failing else "Logging"
    return {
        "arn": trail.arn,
        "name": trail.name,
        "account": trail.account,
        "bucket": trail.bucket,
        "prefix": trail.prefix,
        "homeRegion": trail.home_region,
        "multiRegion": trail.multi_region,
        "logging": trail.logging,
        "status": status,
        "reason": reason or None,
        "latestDelivery": shown_time(state.latest_delivery) if state.latest_delivery else None,
        "latestDigest": shown_time(state.latest_digest) if state.latest_digest else None,
        "validation": trail.validation,
        "insights": bool(trail.insight_selectors),
        "kmsKey": trail.kms_key or None,
        "topic": trail.topic or None,
        "logGroup": trail.log_group or None,
    }


async def trail_problems(control: ControlStore, trails: TrailRegistry) -> list[dict[str, str]]:
    """Returns the problems of trails as `{"trail": ARN, "problem": text}`, empty if all work.

    Deleted trails that have something left to deliver are among them.
    """
    problems = []
    for stored in await trails.all_and_retired():
        trail = stored.trail
        if not (trail.logging or trail.spans):
            continue
        state = await load_state(control, trail.uid)
        if state.latest_error:
            text = f"log files cannot be delivered: {state.latest_error}"
            problems.append({"trail": trail.arn, "problem": text})
        if state.latest_digest_error:
            text = f"digest files cannot be written: {state.latest_digest_error}"
            problems.append({"trail": trail.arn, "problem": text})
        if state.new_chain and state.is_new_chain_current(trail):
            began = shown_time(state.new_chain)
            text = f"a new chain of digest files began at {began}: older ones in the "
            text += "bucket are not of this server or do not belong together"
            problems.append({"trail": trail.arn, "problem": text})
        elif strangers := await _strangers(control, trail):
            problems.append({"trail": trail.arn, "problem": strangers})
    return problems


async def _strangers(control: ControlStore, trail: Trail) -> str | None:
    """Returns the problem of a trail whose bucket has digests of another installation."""
    stored = await control.get(STRANGERS, trail.uid)
    if stored is None or stored.document["started"] != trail.started_at:
        return None
    return (
        f"another installation writes digest files of this trail into bucket "
        f"{stored.document['bucket']}, such as {stored.document['key']}: auditors find two chains; "
        "use another bucket, prefix or name for one of them"
    )


async def all_trails(
    trails: TrailRegistry,
    account: str | None = None,
    may_see: Callable[[str], bool] = lambda _account: True,
) -> list[Trail]:
    """Returns the trails of one account or of all that may be seen, by name."""
    visible = [stored.trail for stored in await trails.all(account)]
    visible = [trail for trail in visible if may_see(trail.account)]
    return sorted(visible, key=lambda trail: (trail.name, trail.arn))


async def find_trail(
    trails: TrailRegistry,
    name: object,
    account: str | None,
    may_see: Callable[[str], bool] = lambda _account: True,
) -> Trail:
    """Returns the trail with a name or ARN, of one account or of any that may be seen.

    Raises:
        CloudTrailError: there is none, or there are several.
    """
    visible = await all_trails(trails, account, may_see)
    fitting = [trail for trail in visible if name in (trail.name, trail.arn)]
    if not fitting:
        message = f"trail {name!r} not found; 'opentrail trail list' shows what there is"
        raise CloudTrailError("TrailNotFoundException", message, 404)
    if len(fitting) > 1:
        arns = ", ".join(trail.arn for trail in fitting)
        message = f"several trails are called {name!r}; name one by its ARN: {arns}"
        raise CloudTrailError("InvalidParameterException", message)
    return fitting[0]
