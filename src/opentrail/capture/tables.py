"""The rules of CloudTrail's record form, read from the tables in `rules/`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from opentrail.core.event import DATA, MANAGEMENT
from opentrail.wire.service_models import Service


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


@cache
def event_name(service_name: str, operation: str) -> str:
    """Returns CloudTrail's name of an operation."""
    table = rules("names")["event_name"].get(service_name, {})
    return str(table.get(operation, operation))


@cache
def is_read_only(label: str, operation: str) -> bool:
    """Returns the record's `readOnly`."""
    table = rules("kinds")["read_only"]
    if operation in table["true"].get(label, ()):
        return True
    if operation in table["false"].get(label, ()):
        return False
    return operation.startswith(tuple(table["prefixes"]))


@cache
def keeps_answer(label: str, operation: str) -> bool:
    """Returns whether a good answer goes into the record."""
    kinds = rules("kinds")
    if operation in kinds["answer_kept"].get(label, ()):
        return True
    if operation in kinds["answer_left_out"].get(label, ()):
        return False
    return not is_read_only(label, operation)


@cache
def needs_answer(label: str, operation: str) -> bool:
    """Returns whether a good answer must be read, to be recorded or for what it touched."""
    return keeps_answer(label, operation) or label in rules("kinds")["answer_read"]["sources"]


@cache
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
def api_version(service_name: str) -> str | None:
    """Returns the record's `apiVersion`, which only a few services have."""
    version: str | None = rules("names")["api_version"].get(service_name)
    return version
