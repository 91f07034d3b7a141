"""Declaring questions, and reading their arguments."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from opentrail.core.errors import CloudTrailError
from opentrail.mcp.asked import merged
from opentrail.questions.question import (
    answer_type,
    load,
    load_all,
    names,
    parameters,
    read,
    required,
)
from tests.api.caller import filled
from tests.fakes import asynchronous
from tests.questions.keys import creation

QUESTIONS = dict(load_all())


@pytest.mark.parametrize("name", names())
def test_every_question_is_described(name: str) -> None:
    question = QUESTIONS[name]
    assert question.__doc__
    assert question.purpose[0].islower()
    assert msgspec.json.schema(answer_type(question))
    for schema in parameters(question).values():
        assert schema["description"]
        assert schema["type"] in ("string", "integer", "boolean", "array")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"limit": "0"}, "limit must be a whole number from 1 to 1000"),
        ({"limit": "many"}, "limit must be a whole number from 1 to 1000"),
        ({"account": "12"}, "account must be a string (only of this account, 12 digits), not '12'"),
        ({"since": "x" * 41}, "since must be a string of at most 40 characters"),
    ],
)
def test_wrong_argument_is_named(given: dict[str, Any], message: str) -> None:
    with pytest.raises(CloudTrailError) as raised:
        read(load("unused-keys"), given)
    assert raised.value.message.startswith(message)


def test_missing_argument_is_named() -> None:
    samples = {"string": "x", "array": []}
    for name, question in QUESTIONS.items():
        schemas = parameters(question)
        for argument in required(question):
            others = {each: samples[schemas[each]["type"]] for each in required(question)}
            del others[argument]
            with pytest.raises(CloudTrailError, match=f"{argument} must be given") as raised:
                read(question, others)
            assert raised.value.code == "InvalidParameterException", name


@asynchronous
async def test_http_explains_errors_and_returns_the_declared_shape() -> None:
    api = await filled(creation(1))
    answer = await api.ask("/api/v1/unused-keys", limit="0")
    assert answer.status == 400
    assert "limit must be a whole number" in answer.json["error"]
    answer = await api.ask("/api/v1/unused-keys")
    msgspec.convert(answer.json, answer_type(load("unused-keys")))


def test_both_parts_of_an_answer_share_their_numbers() -> None:
    facts = {"rows": [{"n": 1, "count": 3}], "complete": True}
    untrusted = {"rows": [{"n": 1, "name": "Mary"}]}
    assert merged(facts, untrusted) == {"rows": [{"count": 3, "name": "Mary"}], "complete": True}
