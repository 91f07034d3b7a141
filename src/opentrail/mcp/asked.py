"""The questions of `opentrail.questions` as tools: their arguments, and both parts of answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec
from pydantic import Field

from opentrail.core.event import Json
from opentrail.core.facts import FACT, SECRETS, WHOLE
from opentrail.core.secrets.embedded import redact, search_limit
from opentrail.mcp.answer import Answer, clean, cleaned, first_that_fits
from opentrail.questions.question import Question, answer_type, expectation, without_null

#: Maximum results in an answer.
MAX_LIMIT = 50
DEFAULT_LIMIT = 10
#: Maximum characters of an expression, or of the ARN of an S3 object.
MAX_TEXT_LENGTH = 1_200
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
Account = Annotated[
    str, Field(pattern=r"^(\d{12})?$", description="only of this account, 12 digits")
]
Region = Annotated[str, Field(max_length=63, description="only of this Region")]
Since = Annotated[
    str,
    Field(max_length=40, description="start time: 2026-01-01T09:00:00Z, or 30m, 2h, 7d before now"),
]
Until = Annotated[str, Field(max_length=40, description="up to then, in the same forms")]
Limit = Annotated[
    int,
    Field(ge=1, le=MAX_LIMIT, description=f"maximum number of results, AT MOST {MAX_LIMIT}"),
]
Cursor = Annotated[
    str, Field(max_length=MAX_TEXT_LENGTH, description="`cursor` of the previous page")
]
EventId = Annotated[str, Field(min_length=1, max_length=200, description="the id of an event")]

#: Maximum characters of a value in a sentence.
_MAX_SHOWN = 60


def unknown_argument(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """Returns the error of an unknown argument, with the known ones; None without one."""
    known = list(schema.get("properties", {}))
    for name in arguments:
        if name not in known:
            like = get_close_matches(name, known, 1)
            question = f"; did you mean {like[0]}?" if like else "."
            shown = clean(name, _MAX_SHOWN)
            return f"there is no argument {shown!r}{question} Known are {', '.join(known)}."
    return None


def describe_errors(schema: Mapping[str, Any], errors: Iterable[Mapping[str, Any]]) -> str:
    """Returns a sentence for each invalid argument.

    Args:
        schema: the JSON schema of the tool's arguments.
        errors: the errors from pydantic.
    """
    sentences: dict[str, str] = {}
    for error in errors:
        name = str(error["loc"][0])
        expected = expectation(without_null(schema["properties"].get(name, {})))
        if error["type"] == "missing":
            sentences[name] = f"{name} must be given: {expected}."
        else:
            value = clean(repr(error["input"]), _MAX_SHOWN)
            sentences[name] = f"{name} must be {expected}, not {value}."
    return " ".join(sentences.values())


# Answers

#: Maximum objects in a list of an answer; fewer if it is too large.
_MAX_ROWS = (50, 20, 10, 5, 2, 1, 0)


def answer_of(question: type[Question], answer: Mapping[str, Any]) -> Answer:
    """Returns a question's answer for an agent, which separates facts from callers' text.

    The type of the answer decides. Facts are numbers, choices, and strings that match the form in
    their `Meta`. An object of a list has its number in both parts.

    Args:
        question: the question.
        answer: the answer of the JSON API.
    """
    shape = answer_type(question)
    lists = [value for value in answer.values() if _is_rows(value)]
    rows = max(map(len, lists), default=1)

    longest = _longest(answer)
    shorter = [most for most in _MAX_ROWS[1:] if most < longest]

    def candidates() -> Iterator[Answer]:
        for most in (_MAX_ROWS[0], *shorter):
            with search_limit():
                facts, untrusted = _split(shape, answer, most)
            yield Answer(facts or {}, untrusted or {}, min(rows, most) if lists else 1)

    return first_that_fits(candidates())


def _longest(value: Any) -> int:
    """Returns the length of the longest list or object in a JSON value."""
    if isinstance(value, dict):
        return max(len(value), max(map(_longest, value.values()), default=0))
    if isinstance(value, list):
        return max(len(value), max(map(_longest, value), default=0))
    return 0


def merged(facts: Any, untrusted: Any) -> Any:
    """Returns both parts of an answer merged into the JSON API's form, with long text truncated."""
    if isinstance(facts, dict) and isinstance(untrusted, dict):
        parts = {name: merged(facts.get(name), untrusted.get(name)) for name in untrusted}
        return {name: value for name, value in {**facts, **parts}.items() if name != "n"}
    if isinstance(facts, list) and isinstance(untrusted, list):
        return [merged(*parts) for parts in zip(facts, untrusted, strict=True)]
    return facts if untrusted is None else untrusted


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _split(shape: Any, value: Any, most: int) -> tuple[Any, Any]:
    """Returns the part of a value that is a fact, and the part that a caller may have written.

    None: that part is empty. Each list has the first `most` of its members.
    """
    shape, metas = _plain(shape)
    if members := _members(shape):
        is_object = isinstance(value, dict)
        return _split_object(members, value, most) if is_object else (None, cleaned(value))
    if get_origin(shape) is list and isinstance(value, list):
        return _split_list(get_args(shape)[0], _shown(shape, value, most), most)
    if get_origin(shape) is Literal or isinstance(value, bool | int | float) or value is None:
        return value, None
    if get_origin(shape) is dict and isinstance(value, dict):
        return None, cleaned(_shown(shape, value, most))
    said = _said(metas)
    if isinstance(value, str):
        if FACT in said and re.fullmatch(said[FACT], value):
            return value, None
        value = redact(value) if SECRETS in said else value
    return None, cleaned(value)


def _split_object(members: Mapping[str, Any], value: Json, most: int) -> tuple[Json, Json]:
    parts = {name: _split(members.get(name, Any), each, most) for name, each in value.items()}
    facts = {name: fact for name, (fact, text) in parts.items() if fact is not None or text is None}
    for name, each in value.items():
        if more := _size(each) - _size(_shown(members.get(name, Any), each, most)):
            facts[f"more_{name}"] = more
    return facts, {name: text for name, (_, text) in parts.items() if text is not None}


def _shown(shape: Any, value: Any, most: int) -> Any:
    """Returns a value with at most `most` members of each list, and of each object with free names.

    Leaves out values that an agent must get unchanged or not at all, if they would change.
    """
    shape, _ = _plain(shape)
    if get_origin(shape) is list and isinstance(value, list):
        is_whole = WHOLE in _said(_plain(get_args(shape)[0])[1])
        return [each for each in value if not is_whole or cleaned(each) == each][:most]
    if get_origin(shape) is dict and isinstance(value, dict):
        return dict([*value.items()][:most])
    return value


def _size(value: Any) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _said(metas: Iterable[msgspec.Meta]) -> dict[str, Any]:
    return {name: each for meta in metas for name, each in (meta.extra or {}).items()}


def _split_list(shape: Any, value: list[Any], most: int) -> tuple[Any, Any]:
    parts = [_split(shape, each, most) for each in value]
    if not _members(_plain(shape)[0]):
        texts = [text for _, text in parts]
        facts = [fact for fact, _ in parts]
        return (facts, None) if all(text is None for text in texts) else (None, cleaned(value))
    numbers = range(1, len(parts) + 1)
    return (
        [{"n": n, **(fact or {})} for n, (fact, _) in zip(numbers, parts, strict=True)],
        [{"n": n, **(text or {})} for n, (_, text) in zip(numbers, parts, strict=True)],
    )


def _plain(shape: Any) -> tuple[Any, list[msgspec.Meta]]:
    """Returns a type without None and annotations, and its annotations."""
    metas: list[msgspec.Meta] = []
    while True:
        if get_origin(shape) is Annotated:
            metas += [each for each in shape.__metadata__ if isinstance(each, msgspec.Meta)]
            shape = shape.__origin__
        elif get_origin(shape) is NotRequired:
            (shape,) = get_args(shape)
        elif get_origin(shape) in (Union, UnionType):
            others = [each for each in get_args(shape) if each is not type(None)]
            if len(others) != 1:
                return Any, metas
            (shape,) = others
        else:
            return shape, metas


def _members(shape: Any) -> Mapping[str, Any]:
    """Returns the types of an object's members; empty for other types."""
    is_struct = isinstance(shape, type) and issubclass(shape, msgspec.Struct)
    return _hints(shape) if is_struct or is_typeddict(shape) else {}


@cache
def _hints(shape: type) -> Mapping[str, Any]:
    """Returns the types of a class's members, cached because answers have thousands of values."""
    return get_type_hints(shape, include_extras=True)
