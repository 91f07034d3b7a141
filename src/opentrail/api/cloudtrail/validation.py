"""Checks an API call's input against AWS's model: types, required members, enums, ranges."""

from __future__ import annotations

import re
from typing import Any

from opentrail.core.errors import CloudTrailError

_PYTHON_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "timestamp": (int, float),
    "structure": (dict,),
    "list": (list,),
    "map": (dict,),
}


def validate(shape: Any, value: Any, path: str = "") -> None:
    """Returns if `value` matches `shape`; a member of the input has a path.

    Raises:
        CloudTrailError: `SerializationException` for a wrong JSON type, `ValidationException` in
            AWS's wording for everything else.
    """
    problems: list[str] = []
    _check(shape, value, path, problems)
    if problems:
        count = len(problems)
        noun = "error" if count == 1 else "errors"
        raise CloudTrailError(
            "ValidationException", f"{count} validation {noun} detected: {'; '.join(problems)}"
        )


def _check(shape: Any, value: Any, path: str, problems: list[str]) -> None:
    _check_type(shape, value, path)
    if shape.type_name == "structure":
        _check_structure(shape, value, path, problems)
        return
    _check_size(shape, value, path, problems)
    if shape.type_name == "list":
        for index, item in enumerate(value, 1):
            _check(shape.member, item, f"{path}.{index}.member", problems)
    elif shape.type_name == "map":
        for key, item in value.items():
            _check(shape.key, key, f"{path}.key", problems)
            _check(shape.value, item, f"{path}.value", problems)
    elif shape.type_name == "string":
        _check_text(shape, value, path, problems)


def _check_type(shape: Any, value: Any, path: str) -> None:
    expected = _PYTHON_TYPES.get(shape.type_name)
    if expected is None:
        return
    fits = isinstance(value, expected) and (
        shape.type_name == "boolean" or not isinstance(value, bool)
    )
    if not fits:
        raise CloudTrailError(
            "SerializationException",
            f"{path or 'the request'} must be of JSON type {shape.type_name}, "
            f"not {type(value).__name__}",
        )


def _check_structure(shape: Any, value: dict[str, Any], path: str, problems: list[str]) -> None:
    for name in shape.required_members:
        if value.get(name) is None:
            problems.append(
                f"Value null at '{member_path(path, name)}' failed to satisfy constraint: "
                "Member must not be null"
            )
    for name, member in shape.members.items():
        if value.get(name) is not None:
            _check(member, value[name], member_path(path, name), problems)


def _check_size(shape: Any, value: Any, path: str, problems: list[str]) -> None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    measured, what = value, "have value"
    if shape.type_name in ("string", "list", "map"):
        measured, what = len(value), "have length"
    elif shape.type_name not in ("integer", "long"):
        return
    for limit, beyond, word in ((low, -1, "greater"), (high, 1, "less")):
        if limit is not None and (measured - limit) * beyond > 0:
            problems.append(
                f"Value '{_truncate(value)}' at '{path}' failed to satisfy constraint: "
                f"Member must {what} {word} than or equal to {limit}"
            )


def _check_text(shape: Any, value: str, path: str, problems: list[str]) -> None:
    enum = shape.metadata.get("enum")
    if enum and value not in enum:
        problems.append(
            f"Value '{_truncate(value)}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy enum value set: [{', '.join(enum)}]"
        )
    pattern = shape.metadata.get("pattern")
    if pattern and not re.search(
        pattern.replace("\\p{L}", "\\w").replace("\\p{Z}", "\\s").replace("\\p{N}", "\\d"), value
    ):
        problems.append(
            f"Value '{_truncate(value)}' at '{path}' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {pattern}"
        )


def member_path(path: str, name: str) -> str:
    """Returns the path of a member, as messages have it."""
    lowered = name[:1].lower() + name[1:]
    return f"{path}.{lowered}" if path else lowered


def _truncate(value: object) -> str:
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"
