"""What is wrong with the arguments of a tool, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from opentrail.mcp.answer import clean

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
        expected = _expected(schema["properties"].get(name, {}))
        if error["type"] == "missing":
            sentences[name] = f"{name} must be given: {expected}."
        else:
            value = clean(repr(error["input"]), _MAX_SHOWN)
            sentences[name] = f"{name} must be {expected}, not {value}."
    return " ".join(sentences.values())


def _expected(schema: Mapping[str, Any]) -> str:
    """Returns what an argument must be, from its JSON schema."""
    kind = schema.get("type")
    if kind == "integer":
        return f"a whole number from {schema['minimum']} to {schema['maximum']}"
    if kind == "boolean":
        return "true or false"
    described = f" ({schema['description']})" if "description" in schema else ""
    longest = f" of at most {schema['maxLength']:,} characters" if "maxLength" in schema else ""
    return f"a text{longest}{described}"
