"""Declares questions and reads their arguments."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, get_type_hints

import msgspec
from msgspec import Meta

from opentrail.core.errors import CloudTrailError

if TYPE_CHECKING:
    from opentrail.history.event_history import History, Search
    from opentrail.history.written_searches import Report
    from opentrail.lake.queries import Queries
    from opentrail.ports.control import ControlStore

#: Modules of this package that declare no question.
_NO_QUESTIONS = {"__init__", "question", "incidents", "policies"}
_MAX_TEXT = 1_200
Role = Literal["viewer", "auditor", "operator", "admin"]

# Arguments that several questions have.
Text = Annotated[str, Meta(min_length=1, max_length=_MAX_TEXT)]
Since = Annotated[
    str, Meta(max_length=40, description="from this time on: 2020-01-01T09:00:00Z, 30m, 12h, 7d")
]
Until = Annotated[str, Meta(max_length=40, description="until this time, in the same forms")]
Account = Annotated[str, Meta(pattern=r"^\d{12}$", description="only of this account, 12 digits")]
Region = Annotated[str, Meta(pattern=r"^[\w-]{1,63}$", description="only of this Region")]
Expression = Annotated[str, Meta(max_length=16_000, description="a search expression")]
Categories = Annotated[
    Literal["management", "all"], Meta(description="of management events (default), or of all")
]
Limit = Annotated[int, Meta(ge=1, le=1_000, description="maximum number of results")]


@dataclass(frozen=True, slots=True)
class Asked:
    """The features that answer a question."""

    #: Event history, limited to the accounts that the caller may see.
    history: History
    #: Stored state besides events.
    control: ControlStore
    now: datetime
    #: Maximum events in an answer to this caller.
    max_events: int
    #: A description of each range missing from event history.
    missing: list[str]
    #: Runs SQL; None on a server that does not.
    queries: Queries | None = None
    #: The name of the caller, who alone may see the result again.
    caller: str = ""
    #: The accounts whose events the caller may see; None: all.
    accounts: tuple[str, ...] | None = None
    #: Sends the progress of a question to the client; None: the client does not read it.
    report: Report | None = None


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A question: its fields are the arguments, and its docstring describes the answer.

    A field without a default is required; its description and limits are in its `Meta`.
    """

    #: The least role that may ask.
    role: ClassVar[Role]
    #: Its purpose, such as `find access keys that no call has used`.
    purpose: ClassVar[str]
    #: Its path below `/api/v1`; None: its name.
    path: ClassVar[str | None] = None
    #: An example of a JSON object with its arguments, for a POST; None: it is a GET.
    body: ClassVar[str | None] = None
    #: Whether an answer needs thousands of events in memory; the server makes one at a time.
    is_large: ClassVar[bool] = False
    #: Whether it reports progress while it reads all events of a search.
    is_followed: ClassVar[bool] = False
    #: Defaults of commands and agents, where HTTP has another default.
    defaults: ClassVar[Mapping[str, str]] = {}

    async def answer(self, asked: Asked) -> Any:
        """Return the answer, a `msgspec.Struct` or a `TypedDict`; the annotation gives its shape.

        Import features inside this method, since commands load the module only for its arguments.

        Raises:
            CloudTrailError: an argument prevents an answer.
        """
        raise NotImplementedError


class SearchQuestion(Question, frozen=True, kw_only=True):
    """A question about the events of a search."""

    expression: Expression | None = None
    since: Since | None = None
    until: Until | None = None
    account: Account | None = None
    region: Region | None = None
    categories: Categories | None = None

    def search(self, asked: Asked) -> Search:
        """Returns the search.

        Raises:
            CloudTrailError: the expression or a time is invalid.
        """
        from opentrail.history.written_searches import search_in

        given = msgspec.structs.asdict(self)
        return search_in({name: each for name, each in given.items() if each}, asked.now)


def names() -> list[str]:
    """Returns the names of all questions, in order."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return [file.stem.replace("_", "-") for file in files if file.stem not in _NO_QUESTIONS]


def load(name: str) -> type[Question]:
    """Returns the question of a name; imports its module."""
    module = f"{__package__}.{name.replace('-', '_')}"
    own = vars(import_module(module)).values()
    declared: type[Question]
    (declared,) = (each for each in own if _is_question(each) and each.__module__ == module)
    return declared


def load_all() -> Iterator[tuple[str, type[Question]]]:
    """Yields all questions with their names."""
    for name in names():
        yield name, load(name)


def path_of(name: str) -> str:
    """Returns the path of a question, below `/api/v1`."""
    return load(name).path or f"/{name}"


def _is_question(value: Any) -> bool:
    return isinstance(value, type) and issubclass(value, Question)


def answer_type(question: type[Question]) -> Any:
    """Returns the type of a question's answer."""
    return get_type_hints(question.answer, include_extras=True)["return"]


def parameters(question: type[Question]) -> dict[str, dict[str, Any]]:
    """Returns the JSON schema of each argument, by its name."""
    (_, components) = msgspec.json.schema_components([question])
    properties = components[question.__name__]["properties"]
    return {name: without_null(schema) for name, schema in properties.items()}


def without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Returns the schema of an argument without null; clients omit the argument instead."""
    rest = {name: value for name, value in schema.items() if value is not None}
    choices = [each for each in rest.pop("anyOf", ()) if each != {"type": "null"}]
    schema = {**choices[0], **rest} if choices else rest
    if "enum" in schema:
        schema |= {"type": "string", "enum": [each for each in schema["enum"] if each is not None]}
    return schema


def required(question: type[Question]) -> list[str]:
    """Returns the names of the required arguments."""
    return [one.name for one in msgspec.structs.fields(question) if one.required]


def read(question: type[Question], given: Mapping[str, Any]) -> Question:
    """Returns a question with a client's arguments; ignores unknown and empty ones.

    Raises:
        CloudTrailError: an argument is missing or invalid; the error names it.
    """
    fields = question.__struct_fields__
    known = {name: value for name, value in given.items() if name in fields and value != ""}
    try:
        return msgspec.convert(known, question, strict=False)
    except msgspec.ValidationError as error:
        raise CloudTrailError(
            "InvalidParameterException", _describe(question, known, error)
        ) from None


def _describe(
    question: type[Question], given: Mapping[str, Any], error: msgspec.ValidationError
) -> str:
    """Returns the error of an argument, in a sentence."""
    name = (re.findall(r"`(?:\$\.)?(\w+)[^`]*`", str(error)) or [""])[-1]
    expected = expectation(parameters(question).get(name, {}))
    if name not in given:
        return f"{name} must be given: {expected}"
    return f"{name} must be {expected}, not {reprlib.repr(given[name])}"


def expectation(schema: Mapping[str, Any]) -> str:
    """Returns the expected form of an argument, from its JSON schema."""
    described = f" ({schema['description']})" if "description" in schema else ""
    if choices := schema.get("enum"):
        return f"one of {', '.join(map(str, choices))}{described}"
    if schema.get("type") == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    if schema.get("type") == "boolean":
        return "true or false"
    if schema.get("type") == "array":
        return f"a list{described}"
    longest = f" of at most {schema['maxLength']:,} characters" if "maxLength" in schema else ""
    return f"a string{longest}{described}"
