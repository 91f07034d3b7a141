"""The description of the JSON API matches its answers."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import parse_qsl

import pytest

from opentrail.api.v1.openapi import GROUPS, describe
from opentrail.api.v1.routes import PARAMETERS, rules_in
from tests.api.browser import Browser
from tests.cases import case
from tests.factories import a_record, an_insight_record, event_id
from tests.fakes import asynchronous
from tests.trails.world import BUCKET

DESCRIPTION = describe(GROUPS)


def schema_of(path: str, method: str = "get") -> dict[str, Any]:
    """Returns the schema of an answer, with its named shapes."""
    response = DESCRIPTION["paths"][f"/api/v1/{path}"][method]["responses"]["200"]
    schema = response["content"]["application/json"]["schema"]
    return {**schema, "components": DESCRIPTION["components"]}


def validator(schema: dict[str, Any]) -> Any:
    """Returns a validator of values against a schema."""
    from jsonschema import Draft202012Validator  # seconds, in each process that collects tests

    return Draft202012Validator(schema)


@asynchronous
async def test_answers_have_the_described_shapes() -> None:
    browser = Browser()
    browser.api.world.clock.advance(3_600)
    browser.open_link()
    await browser.api.ok("CreateTrail", Name="first", S3BucketName=BUCKET)
    await browser.api.ok("StartLogging", Name="first")
    incident = an_insight_record()
    await browser.api.record([a_record(eventID=event_id(1)), incident])
    await browser.send("PUT", "views/mine", {"state": {"last": "7d"}, "expected": 0})
    await browser.post("users", {"name": "ann", "role": "viewer"})
    asked = {
        "events/rows": "events/rows",
        "events/{id}": f"events/{event_id(1)}",
        "events/{id}/context": f"events/{event_id(1)}/context",
        "events/count": "events/count",
        "events/histogram": "events/histogram",
        "events/facets": "events/facets",
        "events/overview": "events/overview",
        "values": "values?field=eventName",
        "resources": "resources?name=Mary",
        "insights": "insights",
        "insights/status": "insights/status",
        "insights/{id}": f"insights/{incident['sharedEventID']}",
        "trails": "trails",
        "trails/digests": "trails/digests?name=first",
        "health": "health",
        "session": "session",
        "views": "views",
        "users": "users",
    }
    for path, address in asked.items():
        with case(path):
            name, _, query = address.partition("?")
            answer = await browser.get(name, **dict(parse_qsl(query)))
            assert answer.status == 200, answer.body
            shape = validator(schema_of(path))
            shape.validate(answer.json)
            # The schema is strict: an answer without its members is invalid.
            assert not shape.is_valid({})


@asynchronous
async def test_an_error_has_the_described_shape() -> None:
    answer = await Browser().get("events/none")
    schema = {"$ref": "#/components/schemas/Error", "components": DESCRIPTION["components"]}
    validator(schema).validate(answer.json)


@pytest.mark.slow
def test_it_describes_each_routes_needs_and_parameters() -> None:
    from openapi_spec_validator import validate  # it imports jsonschema, too

    validate(json.loads(json.dumps(DESCRIPTION)))
    rules = [rule for group in GROUPS for rule, _ in rules_in(group)]
    described = [
        (method, path) for path, methods in DESCRIPTION["paths"].items() for method in methods
    ]
    assert len(described) == len(rules)
    undeclared = [rule for rule in rules if rule.question is None]
    assert {name for rule in undeclared for name in rule.query} == PARAMETERS.keys()
    operation = DESCRIPTION["paths"]["/api/v1/views/{name}"]["put"]
    assert operation["x-least-role"] == "operator"
    assert [each["name"] for each in operation["parameters"]] == ["name"]
    assert DESCRIPTION["paths"]["/api/v1/login"]["post"]["security"] == []
