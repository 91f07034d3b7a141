"""Arguments of tools: their forms and limits, and what is wrong with one, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any

from pydantic import Field

from opentrail.mcp.answer import clean
from opentrail.questions.question import expectation, without_null

#: Results of an answer.
MAX_LIMIT = 50
DEFAULT_LIMIT = 10
#: Characters of an expression, or of the ARN of an object in S3.
MAX_TEXT_LENGTH = 1_200
Text = Annotated[str, Field(max_length=MAX_TEXT_LENGTH)]
Account = Annotated[
    str, Field(pattern=r"^(\d{12})?$", description="only of this account, 12 digits")
]
Region = Annotated[str, Field(max_length=63, description="only of this Region")]
Since = Annotated[
    str,
    Field(
        max_length=40, description="from then on: 2026-01-01T09:00:00Z, or 30m, 2h, 7d before now"
    ),
]
Until = Annotated[str, Field(max_length=40, description="up to then, in the same forms")]
Limit = Annotated[
    int,
    Field(ge=1, le=MAX_LIMIT, description=f"maximum number of results, AT MOST {MAX_LIMIT}"),
]
Cursor = Annotated[
    str, Field(max_length=MAX_TEXT_LENGTH, description="`cursor` of the former page")
]
EventId = Annotated[str, Field(min_length=1, max_length=200, description="the id of an event")]

#: Maximum characters of a value in a sentence.
_MAX_SHOWN = 60


def unknown_argument(schema: Mapping[str, Any], arguments: Mapping[str, Any]) -> str | None:
    """Returns which argument a tool does not have, and the known ones; None if it has all."""
    known = list(schema.get("properties", {}))
    for name in arguments:
        if name not in known:
            like = get_close_matches(name, known, 1)
            question = f"; did you mean {like[0]}?" if like else "."
            shown = clean(name, _MAX_SHOWN)
            return f"there is no argument {shown!r}{question} Known are {', '.join(known)}."
    return None


def describe_errors(schema: Mapping[str, Any], errors: Iterable[Mapping[str, Any]]) -> str:
    """Returns a sentence for each argument that is not valid.

    Args:
        schema: the JSON schema of the tool's arguments.
        errors: what pydantic found.
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
