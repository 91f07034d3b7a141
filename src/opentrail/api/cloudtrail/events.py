"""The operations that read events: LookupEvents, and those on Insights data."""

from __future__ import annotations

from datetime import timedelta

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.attributes import LOOKUP_KEYS
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import DATA, INSIGHT, MANAGEMENT, Json
from opentrail.core.expression import And, Compare, Not
from opentrail.core.insight_types import CALL_RATE, ERROR_RATE
from opentrail.core.trail import Trail
from opentrail.history.event_history import (
    PAGE,
    CountPage,
    CountSearch,
    Page,
    Search,
    event_document,
)
from opentrail.ports.event_store import CallKey

_INSIGHT_KEYS = ("EventId", "EventName", "EventSource")
#: Insights events about data events, which LookupEvents leaves out (cloudtrail-format §11.3).
ABOUT_DATA_EVENTS = Compare(("insightDetails", "sourceEventCategory"), "=", DATA, is_field=False)


@operation(
    "LookupEvents",
    errors={
        "LookupAttributes": "InvalidLookupAttributesException",
        "MaxResults": "InvalidMaxResultsException",
        "EventCategory": "InvalidEventCategoryException",
    },
)
async def lookup_events(call: OperationCall) -> Json:
    """Finds management (or Insights) events of the caller's account and Region, newest first."""
    insight = call.input.get("EventCategory") == "insight"
    start, end = call.times()
    search = Search(
        account=call.account,
        region=call.region,
        categories=(INSIGHT,) if insight else (MANAGEMENT,),
        attribute=_attribute(call.input.get("LookupAttributes") or [], insight),
        expression=Not(ABOUT_DATA_EVENTS) if insight else None,
        start=start,
        end=end,
    )
    limit = call.input.get("MaxResults") or PAGE
    return shown_page(
        await call.services.history.search(search, limit, call.input.get("NextToken"))
    )


def shown_page(page: Page) -> Json:
    """Returns a page of events in the form of the API."""
    answer: Json = {"Events": [event_document(event) for event in page.events]}
    if page.next_token is not None:
        answer["NextToken"] = page.next_token
    return answer


def _attribute(attributes: list[Json], insight: bool) -> tuple[str, str] | None:
    if not attributes:
        return None
    if len(attributes) > 1:
        raise _bad_attributes("At most one lookup attribute is allowed.")
    key, value = attributes[0]["AttributeKey"], attributes[0]["AttributeValue"]
    allowed = _INSIGHT_KEYS if insight else LOOKUP_KEYS
    if key not in allowed:
        raise _bad_attributes(f"Lookup attribute {key} must be one of {', '.join(allowed)}.")
    if key == "ReadOnly" and value not in ("true", "false"):
        raise _bad_attributes("The value of lookup attribute ReadOnly must be true or false.")
    return key, value


def _bad_attributes(message: str) -> CloudTrailError:
    return CloudTrailError("InvalidLookupAttributesException", message)


_INVALID = "InvalidParameterException"
#: Seconds of a period → retention of its values.
_RETENTION = {60: timedelta(days=15), 300: timedelta(days=63), 3600: timedelta(days=90)}
#: Seconds of a period.
_DEFAULT_PERIOD = 3600
#: Maximum values of an answer.
_MAX_VALUES = 21_600
_WITH_ZEROS = "FillWithZeros"


@operation(
    "ListInsightsData",
    errors=dict.fromkeys(
        ("InsightSource", "DataType", "Dimensions", "MaxResults", "NextToken"), _INVALID
    ),
)
async def list_insights_data(call: OperationCall) -> Json:
    """Finds the Insights events about data events of a trail in the caller's Region."""
    source = call.input["InsightSource"]
    if not source.startswith("arn:"):
        raise _invalid(f"InsightSource must be the ARN of a trail, not {source}.")
    trail = await _trail(call, source, "InsightSource")
    start, end = call.times(_INVALID)
    of_trail = Compare(("insightDetails", "insightSource"), "=", trail.arn, is_field=False)
    search = Search(
        account=call.account,
        region=call.region,
        categories=(INSIGHT,),
        attribute=next(iter(call.input.get("Dimensions", {}).items()), None),
        expression=And((ABOUT_DATA_EVENTS, of_trail)),
        start=start,
        end=end,
    )
    limit, token = call.input.get("MaxResults") or PAGE, call.input.get("NextToken")
    try:
        return shown_page(await call.services.history.search(search, limit, token))
    except CloudTrailError as error:
        raise _of_token(error) from error


@operation(
    "ListInsightsMetricData",
    errors=dict.fromkeys(
        (
            *("TrailName", "EventSource", "EventName", "InsightType", "ErrorCode"),
            *("Period", "DataType", "MaxResults", "NextToken"),
        ),
        _INVALID,
    ),
)
async def list_insights_metric_data(call: OperationCall) -> Json:
    """Returns the calls, or the errors with one code, of an operation over time.

    With a trail, they are data events. All events of the account and Region count, even if the
    trail's event selectors leave them out.
    """
    arguments = call.input
    has_trail = "TrailName" in arguments
    trail = await _trail(call, arguments["TrailName"], "TrailName") if has_trail else None
    page = await _count(call, trail)
    minutes = _period(call) / 60
    echoed = ("EventSource", "EventName", "InsightType", "ErrorCode")
    answer: Json = {
        **({"TrailARN": trail.arn} if trail else {}),
        **{member: arguments[member] for member in echoed if member in arguments},
        "Timestamps": [int(start.timestamp()) for start, _ in page.counts],
        "Values": [count / minutes for _, count in page.counts],
    }
    if page.next_token is not None:
        answer["NextToken"] = page.next_token
    return answer


async def _count(call: OperationCall, trail: Trail | None) -> CountPage:
    arguments = call.input
    start, end = call.times(_INVALID)
    key = CallKey(
        call.account,
        call.region,
        MANAGEMENT if trail is None else DATA,
        arguments["EventSource"],
        arguments["EventName"],
        _error_code(call),
    )
    period = _period(call)
    with_zeros = arguments.get("DataType") == _WITH_ZEROS
    search = CountSearch(key, period, _RETENTION[period], start, end, with_zeros)
    limit, token = arguments.get("MaxResults") or _MAX_VALUES, arguments.get("NextToken")
    try:
        return await call.services.history.count(search, limit, token)
    except CloudTrailError as error:
        raise _of_token(error) from error


def _period(call: OperationCall) -> int:
    period: int = call.input.get("Period") or _DEFAULT_PERIOD
    if period not in _RETENTION:
        raise _invalid(f"Period must be 60, 300 or 3600 seconds, not {period}.")
    return period


def _error_code(call: OperationCall) -> str | None:
    code: str | None = call.input.get("ErrorCode")
    if call.input["InsightType"] == ERROR_RATE and not code:
        raise _invalid(f"ErrorCode is required if InsightType is {ERROR_RATE}.")
    if call.input["InsightType"] == CALL_RATE and code:
        raise _invalid(f"ErrorCode {code} does not go with InsightType {CALL_RATE}.")
    return code


async def _trail(call: OperationCall, name_or_arn: str, member: str) -> Trail:
    """Returns a trail of the account.

    Raises:
        CloudTrailError: `InvalidParameterException` that names the member, or
            `InvalidTrailNameException`; the operations have no other errors in AWS's model.
    """
    try:
        return (await call.services.trails.find(call.account, call.region, name_or_arn)).trail
    except CloudTrailError as error:
        if error.code == "InvalidTrailNameException" and member == "TrailName":
            raise
        raise not_a_trail(member, error) from error


def not_a_trail(member: str, error: CloudTrailError) -> CloudTrailError:
    """Returns the error of a member that does not name a trail of the account."""
    return _invalid(f"{member} is not a trail of this account: {error.message}")


def _of_token(error: CloudTrailError) -> CloudTrailError:
    """Returns the error of an invalid token, with these operations' code for it."""
    if error.code != "InvalidNextTokenException":
        return error
    return _invalid(f"NextToken: {error.message}")


def _invalid(message: str) -> CloudTrailError:
    return CloudTrailError(_INVALID, message)
