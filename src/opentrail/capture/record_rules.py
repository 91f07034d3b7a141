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
from opentrail.core.value_class import value_class
from opentrail.wire.service_models import Service

#: Entries of each cache; callers may invent any number of operations.
_CACHED_CALLS = 4_096


@cache
def rules(name: str) -> Mapping[str, Any]:
    """Returns the table file `rules/NAME.toml`."""
    text = files("opentrail.capture").joinpath("rules", f"{name}.toml").read_text()
    return tomllib.loads(text)


def lower_first(name: str) -> str:
    """Returns the name with its first letter in lower case.

    >>> lower_first("DBInstanceIdentifier")
    'dBInstanceIdentifier'
    """
    return name[:1].lower() + name[1:]


@cache
def source_of(service: Service) -> str:
    """Returns a service's source: the part of `eventSource` before `.amazonaws.com`."""
    source = rules("names")["event_source"].get(service.name)
    return str(source or service.endpoint_prefix.rpartition(".")[2])


@lru_cache(_CACHED_CALLS)
def event_name(service_name: str, operation: str) -> str:
    """Returns CloudTrail's name of an operation."""
    table = rules("names")["event_name"].get(service_name, {})
    return str(table.get(operation, operation))


@lru_cache(_CACHED_CALLS)
def is_read_only(source: str, operation: str) -> bool:
    """Returns the record's `readOnly`."""
    table = rules("kinds")["read_only"]
    if operation in table["true"].get(source, ()):
        return True
    if operation in table["false"].get(source, ()):
        return False
    return operation.startswith(tuple(table["prefixes"]))


@lru_cache(_CACHED_CALLS)
def keeps_answer(source: str, operation: str) -> bool:
    """Returns whether the answer of a successful call is recorded."""
    kinds = rules("kinds")
    if operation in kinds["answer_kept"].get(source, ()):
        return True
    if operation in kinds["answer_left_out"].get(source, ()):
        return False
    return not is_read_only(source, operation)


@lru_cache(_CACHED_CALLS)
def needs_answer(source: str, operation: str) -> bool:
    """Returns whether an answer is read: to record it, or for resources or a caller in it."""
    if operation == "GetCallerIdentity":
        return True
    return keeps_answer(source, operation) or source in rules("kinds")["answer_read"]["sources"]


@lru_cache(_CACHED_CALLS)
def answers_urls(service_name: str, operation: str) -> bool:
    """Returns whether an operation's answer holds URLs of the endpoint."""
    return operation in rules("kinds")["answer_urls"].get(service_name, ())


@lru_cache(_CACHED_CALLS)
def data_type(source: str, operation: str) -> str | None:
    """Returns the resource type of a data event, None for a management event."""
    for resource_type, operations in rules("kinds")["data"].get(source, {}).items():
        if operation in operations:
            return str(resource_type)
    return None


def category(source: str, operation: str) -> str:
    """Returns the record's `eventCategory`."""
    return DATA if data_type(source, operation) else MANAGEMENT


@cache
def has_s3_form(service_name: str) -> bool:
    """Returns whether a service is recorded in S3's form."""
    return service_name in rules("names")["s3_form"]["services"]


@cache
def api_version(service_name: str) -> str | None:
    """Returns the record's `apiVersion`, which only a few services have."""
    version: str | None = rules("names")["api_version"].get(service_name)
    return version


@value_class(frozen=True, slots=True)
class OperationTraits:
    """The members of a record that depend on service and operation alone."""

    #: `eventSource`, and its part before `.amazonaws.com`, which is '' for unknown services.
    event_source: str
    source: str
    event_name: str
    category: str
    is_read_only: bool
    is_global: bool
    api_version: str | None
    keeps_answer: bool
    #: Whether the answer names resources missing from the parameters.
    reads_answer: bool
    #: Error codes of calls whose parameters are not recorded.
    parameters_left_out: tuple[str, ...]


UNKNOWN_OPERATION = "UnknownOperation"
UNKNOWN_SOURCE = "unknown.opentrail.internal"
_SIGNING_NAME = re.compile("[a-z0-9][a-z0-9.-]{0,62}")


def is_signing_name(text: str) -> bool:
    """Returns whether text has the form of a service's signing name.

    >>> is_signing_name("s3-outposts"), is_signing_name("../evil"), is_signing_name("")
    (True, False, False)
    """
    return _SIGNING_NAME.fullmatch(text) is not None


@lru_cache(_CACHED_CALLS)
def traits_of(
    service: Service | None, operation: str | None, signed_as: str | None
) -> OperationTraits:
    """Returns the traits of a call; `signed_as` is the service in the credential's scope."""
    source, name = "", operation or UNKNOWN_OPERATION
    if service is not None:
        signers = rules("names")["event_source_by_signer"].get(service.name, ())
        source = signed_as if signed_as and signed_as in signers else source_of(service)
        event_source, name = f"{source}.amazonaws.com", event_name(service.name, name)
    elif signed_as is not None and is_signing_name(signed_as):
        event_source = f"{signed_as}.amazonaws.com"
    else:
        event_source = UNKNOWN_SOURCE
    kinds = rules("kinds")
    return OperationTraits(
        event_source,
        source,
        name,
        category(source, operation or "") if source else MANAGEMENT,
        is_read_only(source, operation or name),
        event_source in GLOBAL_SERVICES,
        api_version(service.name) if service is not None else None,
        keeps_answer(source, operation or "") and _may_show_answer(service, operation),
        source in kinds["answer_read"]["sources"],
        tuple(kinds["parameters_left_out"].get(source, ())),
    )


def _may_show_answer(service: Service | None, operation: str | None) -> bool:
    """Returns whether the model has an operation, and does not mark its answer as sensitive."""
    model = service.operation(operation) if service is not None and operation is not None else None
    return model is not None and not is_sensitive(model.output_shape)


def is_sensitive(shape: Any) -> bool:
    """Returns whether a model marks a whole request or answer as sensitive."""
    return shape is not None and bool(shape.metadata.get("sensitive"))


@lru_cache(_CACHED_CALLS)
def traits_of_custom_service(event_source: str, name: str, is_read_only: bool) -> OperationTraits:
    """Returns the traits of a call to a service other than AWS's: a management event."""
    return OperationTraits(
        event_source, "", name, MANAGEMENT, is_read_only, False, None, False, False, ()
    )
