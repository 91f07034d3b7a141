"""Facts for the record in the head of a request, and whether the call is recorded."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from opentrail.capture.record.assemble import region_of_head, signed_as
from opentrail.capture.record.recordable import OTHER_TYPES, PARTS
from opentrail.capture.record.resources import s3_resources
from opentrail.capture.record.s3_form import s3_place
from opentrail.capture.record_rules import OperationTraits, data_type, traits_of
from opentrail.core.event import DATA, Json
from opentrail.core.event_record import EventFields
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity
from opentrail.core.secrets.embedded import search_limit
from opentrail.core.selectors.advanced import RESOURCE_ARN, USER_ARN, AdvancedSelector
from opentrail.core.selectors.basic import Predicate
from opentrail.core.selectors.selection import LeftOut, Selection, predicate_of
from opentrail.core.value_class import value_class
from opentrail.wire.message import Request
from opentrail.wire.routing import Route
from opentrail.wire.service_models import Service
from opentrail.wire.sigv4 import Credential

#: Operations that are remembered.
_CACHED = 4_096
#: The Tagging API's answers hold opentrail's own trails.
_PARTLY_OWN = "resourcegroupstaggingapi"


_Resources = tuple[tuple[str | None, str | None], ...]


@value_class(frozen=True, slots=True)
class _Operation:
    """Facts common to all calls of an operation.

    Attributes:
        is_s3: whether it is a data event of S3, whose head names its resources.
        names: of its records.
        unknown: fields missing from a head.
        resources: types that other data events may have.
        left_out: the counter of its excluded calls.
    """

    traits: OperationTraits
    is_s3: bool
    names: tuple[str, ...]
    unknown: tuple[str, ...]
    resources: _Resources
    left_out: LeftOut


class Choice:
    """Decides by the head of a request whether a call is recorded.

    Fields missing from the head decide nothing: selectors apply without their conditions on them,
    so that a call is recorded if any of its records may match.

    Args:
        selection: calls to record.
        count: counts an excluded call; returns False if it cannot.
    """

    def __init__(self, selection: Selection, count: Callable[[LeftOut], bool]) -> None:
        self.count = count
        self._operation = lru_cache(_CACHED)(self._find_operation)
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
        """Returns the counter of an excluded call; None: it is recorded."""
        operation = self._operation(route.service, route.operation, signed_as(credential))
        if operation is None:
            return None
        if not request.body_is_whole and "form-urlencoded" in request.headers.get(
            "content-type", ""
        ):
            return None  # the body may name another operation
        if credential is None and not operation.is_s3:
            return None  # the body may name the caller
        traits = operation.traits
        caller: Identity | None = None
        arn: str | None = None
        unknown = operation.unknown
        if credential is not None and (self._needs_caller or traits.source != "s3"):
            caller = identify(credential.access_key_id)
            arn = caller.user_identity.get("arn")
            if arn is None:
                unknown = (*unknown, USER_ARN)
        predicate = self._predicates[unknown]
        resources = operation.resources
        if operation.is_s3:
            resources = _s3_resources(traits, route, request, credential, caller)
        for name in operation.names:
            fields = EventFields(
                traits.event_source, name, traits.is_read_only, None, resources, arn
            )
            if predicate.matches(traits.category, fields):
                return None
        return operation.left_out

    def _find_operation(
        self, service: Service | None, operation: str | None, signed_as: str | None
    ) -> _Operation | None:
        """Returns an operation; None if all its calls are recorded."""
        if service is None or operation is None or service.operation(operation) is None:
            return None
        traits = traits_of(service, operation, signed_as)
        if service.name == _PARTLY_OWN or self._predicates[()].decides(traits.category):
            return None
        kind = data_type(traits.source, operation)
        other_kind = OTHER_TYPES.get(traits.source)
        other_name = PARTS.get(operation)  # the body names the objects
        return _Operation(
            traits,
            service.name == "s3" and traits.category == DATA,
            (traits.event_name, other_name) if other_name else (traits.event_name,),
            (RESOURCE_ARN,) if other_name else (),
            ((kind, None), (other_kind, None)) if kind else (),
            LeftOut(traits.event_source, traits.event_name, kind or ""),
        )


def _without(selection: Selection, unknown: tuple[str, ...]) -> Predicate:
    """Returns the predicate of a selection without its conditions on some fields."""
    selectors = (
        AdvancedSelector(tuple(f for f in selector.fields if f.field not in unknown))
        for selector in selection.advanced
    )
    return predicate_of(Selection(advanced=tuple(selectors)))


def _s3_resources(
    traits: OperationTraits,
    route: Route,
    request: Request,
    credential: Credential | None,
    caller: Identity | None,
) -> _Resources:
    """Returns types and ARNs of the resources of a data event of S3."""
    place = _searched_place(route, request) if request.query else s3_place(route, request)
    account = caller.account if caller else DEFAULT_ACCOUNT
    region, _ = region_of_head(traits, credential)
    found = s3_resources(route.operation or "", place, traits.source, region, account)
    return tuple([(each.get("type"), each.get("ARN") or each.get("ARNPrefix")) for each in found])


@search_limit()
def _searched_place(route: Route, request: Request) -> Json:
    return s3_place(route, request)
