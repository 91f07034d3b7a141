"""The rules of CloudTrail's record form, read from the tables in `rules/`."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from opentrail.core.event import DATA, MANAGEMENT
from opentrail.core.trail import GLOBAL_SERVICES
from opentrail.core.values import value_class
from opentrail.wire.service_models import Service

#: Callers may make up any number of operations: only so many calls are remembered.
_CALLS = 4_096


@cache
def rules(name: str) -> Mapping[str, Any]:
    """Returns the table file `rules/NAME.toml`."""
    text = files("opentrail.capture").joinpath("rules", f"{name}.toml").read_text()
    return tomllib.loads(text)


@cache
def source_label(service_name: str, endpoint_prefix: str) -> str:
    """Returns what stands before `.amazonaws.com` in `eventSource`."""
    named = rules("names")["event_source"].get(service_name)
    return str(named or endpoint_prefix.rpartition(".")[2])


def source_of(service: Service) -> str:
    """Returns a service's source label."""
    return source_label(service.name, service.endpoint_prefix)


@lru_cache(_CALLS)
def event_name(service_name: str, operation: str) -> str:
    """Returns CloudTrail's name of an operation."""
    table = rules("names")["event_name"].get(service_name, {})
    return str(table.get(operation, operation))


@lru_cache(_CALLS)
def is_read_only(label: str, operation: str) -> bool:
    """Returns the record's `readOnly`."""
    table = rules("kinds")["read_only"]
    if operation in table["true"].get(label, ()):
        return True
    if operation in table["false"].get(label, ()):
        return False
    return operation.startswith(tuple(table["prefixes"]))


@lru_cache(_CALLS)
def keeps_answer(label: str, operation: str) -> bool:
    """Returns whether a good answer goes into the record."""
    kinds = rules("kinds")
    if operation in kinds["answer_kept"].get(label, ()):
        return True
    if operation in kinds["answer_left_out"].get(label, ()):
        return False
    return not is_read_only(label, operation)


@lru_cache(_CALLS)
def needs_answer(label: str, operation: str) -> bool:
    """Returns whether a good answer must be read, to be recorded or for what it touched."""
    return keeps_answer(label, operation) or label in rules("kinds")["answer_read"]["sources"]


@lru_cache(_CALLS)
def answers_urls(service_name: str, operation: str) -> bool:
    """Returns whether an operation answers URLs of the endpoint itself."""
    return operation in rules("kinds")["answer_urls"].get(service_name, ())


@lru_cache(_CALLS)
def data_type(label: str, operation: str) -> str | None:
    """Returns the resource type of a data event, None for a management event."""
    for kind, operations in rules("kinds")["data"].get(label, {}).items():
        if operation in operations:
            return str(kind)
    return None


def category(label: str, operation: str) -> str:
    """Returns the record's `eventCategory`."""
    return DATA if data_type(label, operation) else MANAGEMENT


@cache
def has_s3_form(service_name: str) -> bool:
    """Returns whether a service's parameters are recorded as S3's are."""
    return service_name in rules("names")["s3_form"]["services"]


@cache
def api_version(service_name: str) -> str | None:
    """Returns the record's `apiVersion`, which only a few services have."""
    version: str | None = rules("names")["api_version"].get(service_name)
    return version


@value_class(frozen=True, slots=True)
class OperationTraits:
    """What a record says of a call by its service and operation alone.

    `label` is what stands before `.amazonaws.com` in `eventSource`, '' if the service is unknown.
    """

    source: str
    label: str
    name: str
    category: str
    is_read_only: bool
    is_global: bool
    api_version: str | None
    keeps_answer: bool
    #: Whether the answer tells what was touched.
    reads_answer: bool
    #: Whether parameters go elsewhere when a call fails with one of these codes.
    parameters_left_out: tuple[str, ...]


UNKNOWN_OPERATION = "UnknownOperation"
UNKNOWN_SOURCE = "unknown.opentrail.internal"
#: The form of a signing name: others are no service's.
_SERVICE = re.compile("[a-z0-9][a-z0-9.-]{0,62}")


def is_signer(text: str) -> bool:
    """Returns whether text has the form of a signing name.

    >>> is_signer("s3-outposts"), is_signer("../evil"), is_signer("")
    (True, False, False)
    """
    return _SERVICE.fullmatch(text) is not None


@lru_cache(_CALLS)
def kind_of(
    service: Service | None, operation: str | None, signed_as: str | None
) -> OperationTraits:
    """Returns the kind of a call; `signed_as` is the service in the credential's scope."""
    named, label = operation or UNKNOWN_OPERATION, ""
    if service is not None:
        signers = rules("names")["event_source_by_signer"].get(service.name, ())
        label = signed_as if signed_as and signed_as in signers else source_of(service)
        source, name = f"{label}.amazonaws.com", event_name(service.name, named)
    else:
        is_named = signed_as is not None and is_signer(signed_as)
        source, name = f"{signed_as}.amazonaws.com" if is_named else UNKNOWN_SOURCE, named
    kinds = rules("kinds")
    return OperationTraits(
        source,
        label,
        name,
        category(label, operation or "") if label else MANAGEMENT,
        is_read_only(label, operation or name),
        source in GLOBAL_SERVICES,
        api_version(service.name) if service is not None else None,
        keeps_answer(label, operation or ""),
        label in kinds["answer_read"]["sources"],
        tuple(kinds["parameters_left_out"].get(label, ())),
    )


@lru_cache(_CALLS)
def own_kind(source: str, name: str, is_read_only: bool) -> OperationTraits:
    """Returns the kind of a call of a service of one's own: a management event."""
    return OperationTraits(
        source, "", name, MANAGEMENT, is_read_only, False, None, False, False, ()
    )
