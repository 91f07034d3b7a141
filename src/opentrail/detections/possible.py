"""Why a rule can never match: fields, sources and names that no record has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import cache

from opentrail.core.event import FOUND_DETAILS, without_version
from opentrail.core.expression.tree import MEMBERS
from opentrail.detections.matching import EVENT_NAME, EVENT_SOURCE, glob
from opentrail.detections.rules import (
    AllOf,
    AnyOf,
    Condition,
    Exists,
    Like,
    Negation,
    OneOf,
    SameAs,
    values_that,
)
from opentrail.permissions.authorization import is_known, prefixes
from opentrail.permissions.event_actions import ACTION_NAMES, PREFIXES, prefix_of
from opentrail.wire.service_models import Service, ServiceCatalog

_SUFFIX = ".amazonaws.com"
#: Members of the records that rules are applied to.
_MEMBERS = (MEMBERS - set(FOUND_DETAILS.values())) | {
    *("awsRegion", "errorCode", "eventCategory", "eventID", "eventName", "eventSource"),
    *("eventTime", "readOnly", "recipientAccountId", "sourceIPAddress"),
}
#: Members of `userIdentity`.
_IDENTITY = frozenset(
    {
        *(
            "accessKeyId",
            "accountId",
            "arn",
            "credentialId",
            "identityProvider",
            "identityStoreArn",
        ),
        *("inScopeOf", "invokedBy", "onBehalfOf", "principalId", "sessionContext", "type"),
        *("userId", "userName"),
    }
)
#: First labels of event sources that have no API themselves, or have one no longer.
_OTHER_SOURCES = ("console", "robomaker", "signin", "sso-directory", "vpce")
#: Events of S3 named like a permission, not like their operation.
_S3_EVENTS = frozenset(
    {
        *("getaccelerateconfiguration", "putaccelerateconfiguration"),
        *("getaccountpublicaccessblock", "putaccountpublicaccessblock"),
        *("getbucketobjectlockconfiguration", "putbucketobjectlockconfiguration"),
        *("getbucketpublicaccessblock", "putbucketpublicaccessblock"),
    }
)


def impossible(condition: Condition, warnings: list[str]) -> list[str]:
    """Returns why no record can match a condition; an empty list if one may.

    Args:
        condition: the condition of a rule.
        warnings: gets the reasons why alternatives of the condition can never match.
    """
    return _Check(values_that(condition, EVENT_SOURCE), warnings).reasons(condition)


class _Check:
    def __init__(self, sources: Iterable[str] | None, warnings: list[str]) -> None:
        self._sources = sorted(sources or ())
        self._services = [s for source in self._sources for s in _services_of(source)]
        self._warnings = warnings

    def reasons(self, condition: Condition) -> list[str]:
        match condition:
            case AllOf(parts):
                return next(filter(None, map(self.reasons, parts)), [])
            case AnyOf(parts):
                found = [self.reasons(part) for part in parts]
                every = [reason for reasons in found for reason in reasons]
                return self._alternatives(every, bool(parts) and all(found))
            case Negation(part):
                self._warnings += _unknown_fields(part)
                return []
            case OneOf(field, values) if not _unknown_fields(condition):
                found_values = [self._about(field, value) for value in values]
                known = [reason for reason in found_values if reason]
                return self._alternatives(known, bool(values) and len(known) == len(values))
            case Like(pattern, str(field)) if field == EVENT_SOURCE:
                fits = glob(pattern)
                if not any(fits(source) for source in _sources()):
                    return [f"no event source is like {pattern!r}"]
        return _unknown_fields(condition)

    def _alternatives(self, reasons: list[str], is_every: bool) -> list[str]:
        """Returns the reasons if they hold for every alternative; else they become warnings."""
        if is_every:
            return reasons
        self._warnings += reasons
        return []

    def _about(self, field: str, value: str) -> str | None:
        """Returns why no record has a value; None if one may."""
        lowered = value.lower()
        if field == EVENT_SOURCE and lowered not in _sources():
            return f"there is no event source {value!r}{_similar(lowered, _sources())}"
        if field == "errorCode" and lowered in ("success", "none"):
            return (
                f"calls that succeed have no errorCode, so none is {value!r}; use errorCode: null"
            )
        if field == EVENT_NAME:
            return self._about_name(value)
        return None

    def _about_name(self, value: str) -> str | None:
        """Returns why no event has a name, such as a permission's name."""
        name = without_version(value).lower()
        if name == "passrole":
            return "there is no event 'PassRole': iam:PassRole is a permission, which calls need"
        for service in self._services:
            if name in _operations(service):
                return None
        for service in self._services:
            prefix = prefix_of(service.endpoint_prefix)
            named = ACTION_NAMES.get(prefix, {})
            events = sorted(event for event, action in named.items() if action.lower() == name)
            if events or (prefix == "s3" and is_known(f"s3:{value}")):
                hint = f"; the events are {', '.join(events)}" if events else ""
                return f"there is no event {value!r}: {prefix}:{value} is a permission only{hint}"
        if self._services:
            sources = ", ".join(self._sources)
            self._warnings.append(f"no API of {sources} has an operation {value!r}")
        return None


def _unknown_fields(condition: Condition) -> list[str]:
    """Returns which fields of a single comparison no record has; not for a negation."""
    match condition:
        case AllOf() | AnyOf() | Negation():
            return []
        case Exists(field) | OneOf(field):
            fields = [field]
        case SameAs(field, other):
            fields = [field, other]
        case _:
            fields = [condition.field] if condition.field is not None else []
    return [reason for field in fields if (reason := _about_field(field))]


def _about_field(field: str) -> str | None:
    first, *rest = field.split(".")
    if first not in _MEMBERS:
        return f"records have no member {first!r}{_similar(first, _MEMBERS)}"
    if first == "userIdentity" and rest and rest[0] not in _IDENTITY:
        return f"userIdentity has no member {rest[0]!r}{_similar(rest[0], _IDENTITY)}"
    return None


def _similar(text: str, known: Iterable[str]) -> str:
    by_lower = {value.lower(): value for value in known}
    close = get_close_matches(text.lower(), by_lower, 1, 0.75)
    return f"; did you mean {by_lower[close[0]]!r}?" if close else ""


@cache
def _catalog() -> ServiceCatalog:
    return ServiceCatalog()


@cache
def _sources() -> frozenset[str]:
    """Returns the event sources of records, in lowercase."""
    labels = {*_OTHER_SOURCES, *PREFIXES, *prefixes()}
    for service in _catalog().services.values():
        labels |= {service.name, service.endpoint_prefix, service.signing_name}
    return frozenset(f"{label.lower()}{_SUFFIX}" for label in labels)


def _services_of(source: str) -> Sequence[Service]:
    label = source.removesuffix(_SUFFIX)
    if label in _OTHER_SOURCES:
        return []  # their events are no operations of an API
    return [s for s in _catalog().services.values() if label in (s.endpoint_prefix, s.signing_name)]


@cache
def _operations(service: Service) -> frozenset[str]:
    """Returns the names of a service's events: its operations' names, and S3's own."""
    names = {without_version(name).lower() for name in service.model.operation_names}
    names |= _S3_EVENTS if service.name == "s3" else set()
    return frozenset(names | {name.lower() for name in ACTION_NAMES.get(service.name, ())})
