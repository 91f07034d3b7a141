"""Inputs of any operation of the models: minimal ones, and drawn valid and invalid ones."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

from botocore.model import OperationModel
from hypothesis import strategies as st

from tests.factories import ACCOUNT, REGION, catalog

Strategy = st.SearchStrategy[Any]
#: An invalid value, and the name of its wrong member; None if it is the value itself.
Invalid = st.SearchStrategy[tuple[Any, str | None]]

OPERATIONS: dict[str, OperationModel] = {
    name: service.model.operation_model(name)
    for service in (catalog().services["cloudtrail"], catalog().services["cloudtrail-data"])
    for name in service.model.operation_names
}
_CLASS = re.compile(r"\^?(\[.*\])[+*]\$?")
_MORE = 8
#: Valid beyond the model's rules, where a shorter string would be another error.
_TEXTS = {
    "ResourceArn": f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:eventdatastore/e",
    "ChannelArn": f"arn:aws:cloudtrail:{REGION}:{ACCOUNT}:channel/c",
    "DeliveryS3Uri": "s3://my-bucket/x",
    "EventSource": "s3.amazonaws.com",
    "TimeOfDay": "09:00",
}


def _limits(shape: Any) -> tuple[int, int]:
    low = int(shape.metadata.get("min", 0))
    return low, min(int(shape.metadata.get("max", low + _MORE)), low + _MORE)


def minimal(shape: Any) -> Any:
    """Returns the smallest valid value."""
    if shape.type_name == "structure":
        return {name: minimal(shape.members[name]) for name in shape.required_members}
    if shape.type_name == "list":
        return [minimal(shape.member) for _ in range(_limits(shape)[0])]
    if shape.type_name == "map":
        return {}
    if shape.type_name == "string":
        if shape.metadata.get("enum"):
            return shape.metadata["enum"][0]
        return _TEXTS.get(shape.name) or "1" * max(_limits(shape)[0], 1)
    return {"boolean": False}.get(shape.type_name, max(_limits(shape)[0], 1))


def minimal_input(operation: str) -> dict[str, Any]:
    """Returns the smallest valid input of an operation."""
    found: dict[str, Any] = minimal(OPERATIONS[operation].input_shape)
    return found


# Valid


@cache
def valid_inputs(operation: str) -> Strategy:
    """Draws inputs that match the model."""
    return _valid(OPERATIONS[operation].input_shape)


def _valid(shape: Any) -> Strategy:
    return _VALID[shape.type_name](shape)


def _structure(shape: Any) -> Strategy:
    members = {name: _valid(member) for name, member in shape.members.items()}
    required = {name: members.pop(name) for name in shape.required_members}
    return st.fixed_dictionaries(required, optional=members)


def _list(shape: Any) -> Strategy:
    low, high = _limits(shape)
    return st.lists(_valid(shape.member), min_size=low, max_size=min(high, low + 2))


def _map(shape: Any) -> Strategy:
    low, high = _limits(shape)
    most = min(high, low + 2)
    return st.dictionaries(_valid(shape.key), _valid(shape.value), min_size=low, max_size=most)


def _text(shape: Any) -> Strategy:
    if shape.metadata.get("enum"):
        return st.sampled_from(shape.metadata["enum"])
    pattern, (low, high) = shape.metadata.get("pattern"), _limits(shape)
    if pattern is None or pattern in ("(?s).*", ".*"):
        return st.text(st.characters(codec="utf-8"), min_size=low, max_size=high)
    if match := _CLASS.fullmatch(pattern):
        alphabet = [chr(code) for code in range(128) if re.match(match[1], chr(code))]
        return st.text(alphabet, min_size=max(low, 1), max_size=max(high, 1))
    drawn = st.from_regex(re.compile(pattern, re.ASCII), fullmatch=True)
    return drawn.filter(lambda text: low <= len(text) <= shape.metadata.get("max", 10_000))


def _number(shape: Any) -> Strategy:
    return st.integers(shape.metadata.get("min", 0), shape.metadata.get("max", 2**31))


_VALID: dict[str, Callable[[Any], Strategy]] = {
    "structure": _structure,
    "list": _list,
    "map": _map,
    "string": _text,
    "boolean": lambda _: st.booleans(),
    "integer": _number,
    "long": _number,
    "timestamp": lambda _: st.integers(0, 2**33) | st.floats(0, 2**33),
}


# Invalid


@cache
def invalid_inputs(operation: str) -> Invalid:
    """Draws inputs with one member that violates the model, and the member's name."""
    return _broken_structure(OPERATIONS[operation].input_shape)


def _broken(shape: Any) -> Invalid:
    wrong_type: Strategy = st.sampled_from(
        [value for value in (True, 7, "text", ["text"], {"a": 1}) if not _fits(shape, value)]
    )
    ways: list[Invalid] = []
    if "location" not in shape.serialization:  # parameters of a query have no types
        ways.append(wrong_type.map(lambda value: (value, None)))
    if shape.type_name == "structure" and shape.members:
        ways.append(_broken_structure(shape))
    if shape.type_name == "list":
        ways.append(_broken(shape.member).map(lambda found: ([found[0]], found[1])))
    out = [(value, None) for value in _out_of_limits(shape)]
    return st.one_of(*ways, *([st.sampled_from(out)] if out else []))


def _broken_structure(shape: Any) -> Invalid:
    @st.composite
    def draw_one(draw: st.DrawFn) -> tuple[Any, str]:
        value = draw(_valid(shape))
        name = draw(st.sampled_from(sorted(shape.members)))
        if name in shape.required_members and draw(st.booleans()):
            value.pop(name)
            return value, name
        broken, inner = draw(_broken(shape.members[name]))
        return {**value, name: broken}, inner or name

    return draw_one()


def _fits(shape: Any, value: Any) -> bool:
    kinds: dict[str, Any] = {
        "string": str,
        "boolean": bool,
        "list": list,
        "structure": dict,
        "map": dict,
    }
    wanted = kinds.get(shape.type_name, int)
    return isinstance(value, wanted) and (wanted is not int or not isinstance(value, bool))


def _out_of_limits(shape: Any) -> list[Any]:
    """Returns values of the right type that are too long, too short, or not allowed."""
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    found: list[Any] = []
    if shape.type_name == "string":
        found += ["x" * (high + 1)] if high else []
        found += ["x" * (low - 1)] if low else []
        found += ["no such value"] if shape.metadata.get("enum") else []
        pattern = shape.metadata.get("pattern")
        found += [text for text in ("\u2603", "") if pattern and not re.search(pattern, text)]
    elif shape.type_name in ("integer", "long"):
        found += [value for value in (low and low - 1, high and high + 1) if value is not None]
    elif shape.type_name == "list":
        found += [[]] if low else []
        found += [[minimal(shape.member)] * (high + 1)] if high else []
    return found
