"""Lists and JSON in headers, of all their operations, as botocore writes them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.model import OperationModel, Shape
from hypothesis import given
from hypothesis import strategies as st

from opentrail.wire.requests import decode_request
from opentrail.wire.routing import Route
from opentrail.wire.service_models import Service
from opentrail.wire.values import from_header
from tests.factories import an_sdk_request, catalog
from tests.wire.test_routing import minimal

TEXTS = ["plain", "a,b", 'say "hi"', 'both, "quoted"', "back\\slash", 'odd\\"one', "", "a=b;c", ","]
#: JSON as callers pass it: a string, or a value.
DOCUMENTS: list[Any] = ["plain", '{"a":1}', 'say "hi"', "", {"a": [1, "x,y"]}, ["a", "b"], "[1]"]


def header_members() -> Iterator[tuple[Service, OperationModel, str, Any]]:
    for service in catalog().services.values():
        if not {"rest-json", "rest-xml"} & set(service.protocols):
            continue
        for operation in service.model.operation_names:
            model = service.model.operation_model(operation)
            for name, member in (model.input_shape.members if model.input_shape else {}).items():
                is_listed = member.type_name == "list" or member.serialization.get("jsonvalue")
                if member.serialization.get("location") == "header" and is_listed:
                    yield service, model, name, member


def check(service: Service, model: OperationModel, name: str, member: Any) -> None:
    values = [[text] for text in TEXTS] + [TEXTS] if member.type_name == "list" else DOCUMENTS
    for value in values:
        asked = minimal(model.input_shape, "x", deep=False) | {name: value}
        request = an_sdk_request(service.name, model.name, asked)
        protocol = "rest-xml" if "rest-xml" in service.protocols else "rest-json"
        labels = {
            one.serialization["name"]: "x"
            for one in model.input_shape.members.values()
            if one.serialization.get("location") == "uri"
        }
        route = Route(service, model.name, protocol, labels)
        found = decode_request(route, request)[0][name]
        read = found if isinstance(value, str) or member.type_name == "list" else json.loads(found)
        assert read == value, f"{service.name}.{model.name}.{name}"


@pytest.mark.slow
def test_a_header_member_keeps_its_value() -> None:
    # In one test: to find the members, it reads every model.
    kinds = []
    for case in header_members():
        check(*case)
        kinds.append(case[3].type_name)
    assert set(kinds) == {"list", "string"}
    assert len(kinds) >= 10


def a_list() -> Shape:
    """Returns a list member in a header."""
    asked = catalog().services["s3"].model.operation_model("GetObjectAttributes").input_shape
    member: Shape = asked.members["ObjectAttributes"]
    assert member.type_name == "list"
    return member


@pytest.mark.hypothesis
@given(st.text(st.sampled_from('a,"\\ \t\u00e9'), max_size=30))
def test_any_header_is_a_list_of_some_kind(text: str) -> None:
    assert all(isinstance(part, str) for part in from_header(a_list())(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a, b ,c", ["a", "b", "c"]),
        ('"a", "b"', ["a", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ('"unended,b', ['"unended', "b"]),
        ('a"b,c', ['a"b', "c"]),
        ("", [""]),
        ("a,,b,", ["a", "", "b", ""]),
    ],
)
def test_other_clients_lists_are_read_correctly(text: str, parts: list[str]) -> None:
    assert from_header(a_list())(text) == parts
