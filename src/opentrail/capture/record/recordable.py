"""The calls that event selectors can match, and those that a selection leaves out.

A selector that matches no call would leave calls unrecorded without notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from typing import Final

from opentrail.capture.record.resources import s3_resources
from opentrail.capture.record_rules import (
    UNKNOWN_OPERATION,
    event_name,
    is_read_only,
    rules,
    source_of,
)
from opentrail.core.errors import UsageError
from opentrail.core.event import DATA, MANAGEMENT
from opentrail.core.event_record import EventFields
from opentrail.core.identity import DEFAULT_ACCOUNT
from opentrail.core.selectors.advanced import (
    RESOURCE_ARN,
    RESOURCE_TYPE,
    USER_ARN,
    AdvancedSelector,
    FieldSelector,
)
from opentrail.core.selectors.selection import Selection, predicate_of
from opentrail.wire.service_models import Service, ServiceCatalog

_NAME, _SOURCE = "eventName", "eventSource"
#: Operations that have records of another operation.
PARTS: Final = {"DeleteObjects": "DeleteObject"}
#: Resource types that calls of a source may have in addition to those of its data events.
OTHER_TYPES: Final = {"sns": "AWS::SNS::PlatformEndpoint"}
#: Fields that no operation decides.
_OF_CALLS = frozenset({RESOURCE_ARN, USER_ARN})
#: Maximum event names of a service in the description of a selection.
_MAX_DESCRIBED_NAMES: Final = 6

_TESTS: dict[str, Callable[[str, str], bool]] = {
    "Equals": str.__eq__,
    "StartsWith": str.startswith,
    "EndsWith": str.endswith,
}


def check_recordable(selection: Selection, source: str) -> None:
    """Checks that every selector matches some calls, and that each of its values names something.

    Raises:
        UsageError: one does not; the message names `source`, the value and the nearest valid one.
    """
    catalog = ServiceCatalog()
    for number, selector in enumerate(selection.advanced, 1):
        name = f" ({selector.name})" if selector.name else ""
        where = f"{source}: selector {number}{name}"
        calls = list(_calls(catalog, selector))
        for field in selector.fields:
            if field.field in (_NAME, _SOURCE, RESOURCE_TYPE):
                _check_values(field, calls, where)
        predicate = predicate_of(_without_call_fields([selector]))
        if not any(predicate.matches(selector.category, fields) for fields in calls):
            raise UsageError(f"{where}: no call matches all of its conditions")


def describe_left_out(selection: Selection) -> str:
    """Returns a line about the calls that a selection leaves out."""
    recorded = predicate_of(_without_call_fields(selection.advanced))
    parts = []
    if not recorded.decides(MANAGEMENT):
        is_partial = recorded.decides(MANAGEMENT) is None
        parts.append(f"{'some' if is_partial else 'all'} management events")
    names: dict[str, dict[str, bool]] = {}
    for fields in _data_calls(ServiceCatalog()):
        is_recorded = recorded.matches(DATA, fields)
        names.setdefault(fields.event_source.partition(".")[0], {})[fields.event_name] = is_recorded
    whole = [source for source, of_source in names.items() if not any(of_source.values())]
    if whole:
        parts.append(f"data events of {', '.join(whole)}")
    for source, of_source in names.items():
        left_out = [name for name, is_recorded in of_source.items() if not is_recorded]
        if left_out and source not in whole:
            more = len(left_out) - _MAX_DESCRIBED_NAMES
            shown = ", ".join(left_out[:_MAX_DESCRIBED_NAMES])
            parts.append(f"{shown}{f' and {more} more' if more > 0 else ''} of {source}")
    fields_of_calls = {f.field for s in selection.advanced for f in s.fields} & _OF_CALLS
    if fields_of_calls:
        parts.append(f"calls by {' and '.join(sorted(fields_of_calls))}")
    return "; ".join(parts) or "nothing"


def _without_call_fields(selectors: Iterable[AdvancedSelector]) -> Selection:
    kept = (
        AdvancedSelector(tuple(f for f in selector.fields if f.field not in _OF_CALLS))
        for selector in selectors
    )
    return Selection(advanced=tuple(kept))


def _check_values(field: FieldSelector, calls: list[EventFields], where: str) -> None:
    known = {text for fields in calls for text in _texts(field.field, fields)}
    for condition in field.conditions:
        matches = _TESTS[condition.operator.removeprefix("Not")]
        for value in condition.values:
            if any(matches(text, value) for text in known):
                continue
            renamed = rules("names")["event_name"]["s3"].get(value)
            close = get_close_matches(value, known, 1, 0.4)
            if (longer := f"{value}.amazonaws.com") in known:
                close = [longer]
            if renamed in known:
                hint = f"; its calls are recorded as {renamed}"
            else:
                hint = f"; did you mean {close[0]}?" if close else ""
            raise UsageError(f"{where}: no call has {field.field} {value!r}{hint}")


def _texts(field: str, fields: EventFields) -> list[str]:
    if field == RESOURCE_TYPE:
        return [kind for kind, _ in fields.resources if kind]
    return [fields.event_name if field == _NAME else fields.event_source]


def _calls(catalog: ServiceCatalog, selector: AdvancedSelector) -> Iterator[EventFields]:
    if selector.category == DATA:
        return _data_calls(catalog)
    return _management_calls(catalog, {field.field: field for field in selector.fields})


def _data_calls(catalog: ServiceCatalog) -> Iterator[EventFields]:
    """Yields the fields of each data event."""
    services: dict[str, Service] = {}
    for service in catalog.services.values():
        for source in _sources(service):
            services.setdefault(source, service)
    services["s3"] = catalog.services["s3"]
    for source, operations_by_type in rules("kinds")["data"].items():
        of_source = services.get(source)
        for kind, operations in operations_by_type.items():
            for operation in operations:
                types = dict.fromkeys([kind, OTHER_TYPES.get(source, kind)])
                types.update(dict.fromkeys(_s3_types(source, operation)))
                resources = tuple((each, None) for each in types)
                name = event_name(of_source.name, operation) if of_source else operation
                yield EventFields(
                    f"{source}.amazonaws.com",
                    name,
                    is_read_only(source, operation),
                    None,
                    resources,
                )


def _s3_types(source: str, operation: str) -> list[str]:
    """Returns the resource types of a call to S3, whose heads name more than one."""
    if source not in {"s3", *rules("names")["event_source_by_signer"]["s3"]}:
        return []
    place = {"bucketName": f"point-{DEFAULT_ACCOUNT}.op-1", "key": "key"}
    resources = s3_resources(operation, place, source, "us-east-1", DEFAULT_ACCOUNT)
    return [each["type"] for each in resources]


def _sources(service: Service) -> list[str]:
    return [source_of(service), *rules("names")["event_source_by_signer"].get(service.name, ())]


def _management_calls(
    catalog: ServiceCatalog, fields: dict[str, FieldSelector]
) -> Iterator[EventFields]:
    """Yields the fields of management events; each name only if conditions are about names."""
    needs_names = _NAME in fields or "readOnly" in fields
    sources = fields.get(_SOURCE)
    demanded = set(sources.values("Equals")) if sources is not None else set()
    for service in catalog.services.values():
        for source in _sources(service):
            event_source = f"{source}.amazonaws.com"
            yield EventFields(event_source, UNKNOWN_OPERATION)
            if not needs_names or (demanded and event_source not in demanded):
                continue
            for operation in service.model.operation_names:
                name = event_name(service.name, operation)
                yield EventFields(event_source, name, is_read_only(source, operation))
