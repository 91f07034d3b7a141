"""Every question has one answer: over HTTP, on the command line and for an agent."""

from __future__ import annotations

import asyncio
import json
import re
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opentrail.commands.client import find
from opentrail.mcp.answer import cleaned
from opentrail.mcp.asked import merged
from opentrail.questions.question import Question, load, names, parameters, path_of, required
from tests.collection import PART
from tests.factories import an_insight_record
from tests.live.processes import Opentrail, opentrail_server
from tests.live.test_mcp import ask, connected

pytestmark = [pytest.mark.live, pytest.mark.slow]

ALLOW_IAM = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "iam:*", "Resource": "*"}],
}
#: Values of arguments that fit the records; the test draws others by their schema.
VALUES: dict[str, list[Any]] = {
    "since": ["2020-01-01", "2023-07-10T12:00:00Z", "3650d"],
    "until": ["2024-01-01T00:00:00Z", "1h"],
    "account": ["123456789012", "751353041310"],
    "region": ["us-east-1", "eu-central-1"],
    "event": [
        "be7f89b5-d456-4423-b3e6-0fb0b19bad7c",
        "ae9a706f-d8a4-4e50-9043-22b2a03f481c",
        "85c89720-8103-4281-9e0e-8977b52bcdbe",
    ],
    "resource": ["malicious-iam-user", "user/bert-jan", "nobody-has-it"],
    "type": ["user", "AWS::S3::Bucket"],
    "expression": ["name=Create*", "is:write NOT user=bert-jan"],
    "text": ["mal", "nobody-has-it"],
    "prefix": ["stratus", "mal"],
    "principal": ["bert-jan", "nobody-has-it"],
    "policies": [[], [ALLOW_IAM]],
    "name": ["bert-jan", "stratus-red-team", "nobody-has-it"],
}


#: Commands with another name than their question.
COMMANDS = {
    "policy-for": "policy generate",
    "test-policy": "policy test",
    "unused-actions": "policy unused",
    "query-history": "query --history",
    "query-tables": "query --tables",
}
WITHOUT_COMMAND = ("principals", "resources")
#: Questions whose command prints each of these members on a line.
LINES = {"insights": "incidents"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    """A server with records of two publishers, created access keys, and an incident."""
    folder = tmp_path_factory.mktemp("questions")
    with opentrail_server(folder / "data", "--upstream", "http://127.0.0.1:9") as started:
        incident = folder / "incident.ndjson"
        incident.write_text(json.dumps(an_insight_record()))
        published = [
            PART / f"{name}.ndjson" for name in ("invictus-aws_dataset", "stratus-red-team")
        ]
        for file in (*published, incident):
            done = started.opentrail("import", str(file))
            assert done.returncode == 0, done.stderr
        yield started


@st.composite
def arguments_of(draw: st.DrawFn, question: type[Question]) -> dict[str, Any]:
    """Draws arguments that a question accepts; may leave out those with a default."""
    drawn: dict[str, Any] = {}
    for name, schema in parameters(question).items():
        if name not in required(question) and draw(st.booleans()):
            continue
        if name in VALUES:
            drawn[name] = draw(st.sampled_from(VALUES[name]))
        elif "enum" in schema:
            drawn[name] = draw(st.sampled_from(schema["enum"]))
        elif schema["type"] == "integer":
            drawn[name] = draw(st.integers(schema["minimum"], min(schema["maximum"], 30)))
        elif schema["type"] == "boolean":
            drawn[name] = draw(st.booleans())
        else:
            raise NotImplementedError(f"values for {name} are needed in VALUES")
    if "until" in drawn:
        drawn.setdefault("since", VALUES["since"][0])
    return drawn


#: Each query has another id: `test_sql.py` compares their rows.
@pytest.mark.parametrize("name", [name for name in names() if name != "query"])
@settings(
    max_examples=8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data())
def test_http_command_and_agent_get_the_same_answer(
    server: Opentrail, name: str, data: st.DataObject
) -> None:
    question = load(name)
    arguments = {**question.defaults, **data.draw(arguments_of(question))}
    query = {
        each: str(value).lower() if value is True or value is False else str(value)
        for each, value in arguments.items()
    }
    asked = ({}, arguments) if question.body else (query, None)
    console = find(Namespace(endpoint=None, data_dir=server.data_dir))
    answered = console.ask(f"/api/v1{path_of(name)}", *asked)
    if name not in WITHOUT_COMMAND:
        done = server.opentrail(*typed(name, arguments, server.data_dir), "--json")
        # 5: there is no call to decide by.
        assert done.returncode in (0, 1, 5), done.stderr
        if rows := LINES.get(name):
            assert [json.loads(line) for line in done.stdout.splitlines()] == answered[rows]
        elif name == "unused-actions" and done.stdout:
            assert json.loads(done.stdout) == {"patterns": answered["patterns"]}
        elif done.stdout or answered.get("events") != 0:
            assert json.loads(done.stdout) == answered
    agent = asyncio.run(_as_agent(server.data_dir, name, arguments))
    shown = merged(agent["facts"], agent["untrusted"])
    assert set(answered) <= set(shown)
    assert shown == _as_short(cleaned(answered), shown)


def typed(name: str, arguments: dict[str, Any], folder: Path) -> list[str]:
    """Returns the words of a command; a list of documents is a file."""
    question = load(name)
    words = COMMANDS.get(name, name).split()
    for each, value in arguments.items():
        flag = f"--{re.sub('[A-Z]', lambda letter: f'-{letter[0]}', each).lower()}"
        if isinstance(value, list):
            (folder / "documents.json").write_text(json.dumps(value))
            words.append(str(folder / "documents.json"))
        elif each in required(question) and name != "test-policy":
            words.append(str(value))
        elif value is not False:
            words += [flag] if value is True else [flag, str(value)]
    return words


def _as_short(answer: Any, shown: Any) -> Any:
    """Returns an answer with lists as short as an agent's, and the number of omitted items."""
    if isinstance(answer, list):
        return [_as_short(*each) for each in zip(answer, shown, strict=False)]
    if not isinstance(answer, dict):
        return answer
    more = {
        f"more_{name}": len(each) - len(shown[name])
        for name, each in answer.items()
        if isinstance(each, list | dict) and len(each) > len(shown[name])
    }
    kept = {name: _as_short(answer[name], shown[name]) for name in answer if name in shown}
    return {**kept, **more}


async def _as_agent(data_dir: Path, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    async with connected(data_dir) as client:
        return await ask(client, name.replace("-", "_"), **arguments)
