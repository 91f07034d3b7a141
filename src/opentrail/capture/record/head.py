"""What the head of a request says of its record, and whether the call is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from opentrail.capture.record.resources import s3_resources
from opentrail.capture.record.s3_form import s3_place
from opentrail.capture.record_limits import MAX_NAME_LENGTH
from opentrail.capture.record_rules import OperationTraits, data_type, traits_of
from opentrail.capture.redaction.embedded import search_limit
from opentrail.core.event import DATA, is_region
from opentrail.core.event_record import EventFields
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity
from opentrail.core.left_out import LeftOut
from opentrail.core.selectors.advanced import RESOURCE_ARN, USER_ARN, AdvancedSelector
from opentrail.core.selectors.predicate import Predicate
from opentrail.core.selectors.selection import Selection, predicate_of
from opentrail.core.trail import GLOBAL_REGION
from opentrail.wire.message import Request
from opentrail.wire.routing import Route
from opentrail.wire.sigv4 import Credential

#: Operations whose bodies name objects, each of which has a record under another name.
_WITH_OBJECTS = {"DeleteObjects": "DeleteObject"}
#: The Tagging API's answers hold opentrail's own trails.
_PARTLY_OWN = "resourcegroupstaggingapi"


def traits_of_head(route: Route, credential: Credential | None) -> OperationTraits:
    signed_as = credential.service if credential else None
    if signed_as is not None:
        signed_as = signed_as[:MAX_NAME_LENGTH]  # one that is longer is none, and would be cached
    return traits_of(route.service, route.operation, signed_as)


def region_of_head(
    traits: OperationTraits, credential: Credential | None
) -> tuple[str, str | None]:
    """Returns the call's Region, and text in its place that has not the form of one."""
    if traits.is_global or credential is None or not credential.region:
        return GLOBAL_REGION, None
    if is_region(credential.region):
        return credential.region, None
    return GLOBAL_REGION, credential.region


class Choice:
    """Decides by the head of a request whether a call is recorded.

    What the head does not say is not decided on: selectors apply without their conditions on it, so
    that a call is recorded if any of its records may match.

    Args:
        selection: calls to record.
        count: counts a call that is left out; returns False if it cannot.
    """

    def __init__(self, selection: Selection, count: Callable[[LeftOut], bool]) -> None:
        self.count = count
        self._needs_caller = any(
            field.field == USER_ARN for selector in selection.advanced for field in selector.fields
        )
        self._predicates: dict[tuple[str, ...], Predicate] = {
            unknown: _without(selection, unknown)
            for unknown in ((), (RESOURCE_ARN,), (USER_ARN,), (RESOURCE_ARN, USER_ARN))
        }

    def left_out(
        self,
        route: Route,
        request: Request,
        credential: Credential | None,
        identify: Callable[[str], Identity],
    ) -> LeftOut | None:
        """Returns what a call is counted as that is left out; None: it is recorded."""
        service = route.service
        if service is None or route.model is None or service.name == _PARTLY_OWN:
            return None
        if not request.body_is_whole and "form-urlencoded" in request.headers.get(
            "content-type", ""
        ):
            return None  # the body may name another operation
        if credential is None and service.name != "s3":
            return None  # the body may name the caller
        traits = traits_of_head(route, credential)
        if self._predicates[()].decides(traits.category):
            return None
        caller: Identity | None = None
        unknown: tuple[str, ...] = ()
        if credential is not None and (self._needs_caller or traits.source != "s3"):
            caller = identify(credential.access_key_id)
        arn = caller.user_identity.get("arn") if caller is not None else None
        if caller is not None and arn is None:
            unknown = (USER_ARN,)
        names: tuple[str, ...] = (traits.event_name,)
        if other_name := _WITH_OBJECTS.get(route.operation or ""):
            names, unknown = (traits.event_name, other_name), (RESOURCE_ARN, *unknown)
        predicate = self._predicates[unknown]
        resources = _resources(traits, route, request, credential, caller)
        for name in names:
            fields = EventFields(
                traits.event_source, name, traits.is_read_only, None, resources, arn
            )
            if predicate.matches(traits.category, fields):
                return None
        kind = data_type(traits.source, route.operation or "")
        return LeftOut(traits.event_source, traits.event_name, kind or "")


def _without(selection: Selection, unknown: tuple[str, ...]) -> Predicate:
    """Returns the predicate of a selection without its conditions on some fields."""
    selectors = (
        AdvancedSelector(tuple(f for f in selector.fields if f.field not in unknown))
        for selector in selection.advanced
    )
    return predicate_of(Selection(advanced=tuple(selectors)))


def _resources(
    traits: OperationTraits,
    route: Route,
    request: Request,
    credential: Credential | None,
    caller: Identity | None,
) -> tuple[tuple[str | None, str | None], ...]:
    """Returns types and ARNs of a data event's resources; outside of S3 all types it may have."""
    if traits.category != DATA:
        return ()
    operation = route.operation or ""
    if route.service is None or route.service.name != "s3":
        other = "AWS::SNS::PlatformEndpoint" if traits.source == "sns" else None
        return ((data_type(traits.source, operation), None), (other, None))
    account = caller.account if caller else DEFAULT_ACCOUNT
    region, _ = region_of_head(traits, credential)
    place = _searched_place(route, request) if request.query else s3_place(route, request)
    found = s3_resources(operation, place, traits.source, region, account)
    return tuple([(each.get("type"), each.get("ARN") or each.get("ARNPrefix")) for each in found])


@search_limit()
def _searched_place(route: Route, request: Request) -> dict[str, Any]:
    return s3_place(route, request)
