"""JSON as Trino reads and writes it: keys keep their order."""

from __future__ import annotations

import json
import re
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from typing import Any

from opentrail.lake.dialect.number_functions import (
    boolean,
    double,
    double_text,
    integer,
    json_double,
)
from opentrail.lake.dialect.python_functions import B, N, T, UnsupportedValueError, function


class _Number(str):
    """A JSON number with its original spelling."""


def _refused(constant: str) -> None:
    raise ValueError(constant)


_PARSED = json.JSONDecoder(parse_float=_Number, parse_int=_Number, parse_constant=_refused)
_SPACE = " \t\n\r"
_WIDE = re.compile("[\ud800-\udfff\U00010000-\U0010ffff]")
_PATH = re.compile(r"""\.([A-Za-z_0-9:$@]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]""")
_MISSING = object()


def _written(value: Any, is_sorted: bool = False, is_escaped: bool = True) -> str:
    """Returns JSON without spaces; fractions as Java shows a double."""
    if isinstance(value, _Number):
        return str(int(value)) if _is_whole(value) else json_double(float(value))
    if isinstance(value, str):
        return json_quote(value) if is_escaped else json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        keys = sorted(value, key=_java_order) if is_sorted else value
        pairs = (
            f"{_written(key, is_sorted, is_escaped)}:{_written(value[key], is_sorted, is_escaped)}"
            for key in keys
        )
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(_written(each, is_sorted, is_escaped) for each in value) + "]"
    return "null" if value is None else str(value).lower()


def _java_order(key: str) -> bytes:
    return key.encode("utf-16-be", "surrogatepass")


def _is_whole(number: _Number) -> bool:
    return re.fullmatch(r"-?\d+", number) is not None


@function(T, returns=T)
def json_quote(text: str) -> str:
    shown = json.dumps(text, ensure_ascii=False)
    return _WIDE.sub(lambda wide: json.dumps(wide[0])[1:-1].upper().replace("\\U", "\\u"), shown)


@lru_cache(256)
def _steps(path: str) -> tuple[str | int, ...]:
    if not path.startswith("$"):
        raise ValueError(f"Invalid JSON path: '{path}'")
    steps: list[str | int] = []
    at = 1
    while at < len(path):
        found = _PATH.match(path, at)
        if found is None:
            raise ValueError(f"Invalid JSON path: '{path}'")
        name, index, key = found.groups()
        steps.append(
            int(index)
            if index is not None
            else name
            if name is not None
            else json.loads(f'"{key}"')
        )
        at = found.end()
    return tuple(steps)


@lru_cache(64)
def _read(text: str) -> Any:
    text = text.lstrip(_SPACE)
    try:
        value, end = _JSON.raw_decode(text)
    except UnsupportedValueError:
        raise
    except (ValueError, RecursionError):
        return _MISSING
    if "\\ud" in text.lower() and re.search(
        "[\ud800-\udfff]", json.dumps(value, ensure_ascii=False)
    ):
        raise UnsupportedValueError("half a surrogate pair is not supported")
    is_cut = isinstance(value, _Number) and text[end : end + 1].strip(_SPACE)
    return _MISSING if is_cut else value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise UnsupportedValueError("an object with two members of one name is not supported")
    return made


_JSON = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_float=_Number,
    parse_int=_Number,
    parse_constant=_refused,
)


def _at(text: str, path: str) -> Any:
    value = _read(text)
    for step in _steps(path):
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step, _MISSING)
        elif isinstance(step, int) and isinstance(value, list):
            value = value[step] if step < len(value) else _MISSING
        elif isinstance(step, int) and isinstance(value, dict):
            value = value.get(str(step), _MISSING)
        else:
            return _MISSING
    return value


@function(T, T, returns=T)
def json_extract(text: str, path: str) -> str | None:
    value = _at(text, path)
    return None if value is _MISSING else _written(value)


@function(T, T, returns=T)
def json_scalar(text: str, path: str) -> str | None:
    value = _at(text, path)
    if value is _MISSING or value is None or isinstance(value, dict | list):
        return None
    return str(value).lower() if isinstance(value, bool) else str(value)


@function(T, returns=T)
def json_parse(text: str) -> str:
    try:
        value, end = _PARSED.raw_decode(text.strip(_SPACE))
        if end != len(text.strip(_SPACE)):
            raise ValueError
    except (ValueError, RecursionError):
        raise ValueError(f"Cannot convert value to JSON: '{text[:200]}'") from None
    return _written(value, True)


@function(T, returns=N)
def json_array_length(text: str) -> int | None:
    value = _read(text)
    return len(value) if isinstance(value, list) else None


@function(T, N, returns=T)
def json_array_get(text: str, index: int) -> str | None:
    value = _read(text)
    if not isinstance(value, list) or not -len(value) <= index < len(value):
        return None
    found = value[index]
    if found is None:
        return None
    return str(found) if isinstance(found, str) else _written(found)


@function(T, T, returns=B)
def json_array_contains(text: str, wanted: str) -> bool | None:
    value, kind, shown = _read(text), wanted[0], wanted[1:]
    if not isinstance(value, list):
        return None
    for each in value:
        if kind == "b" and isinstance(each, bool) and str(each).lower() == shown:
            return True
        if isinstance(each, _Number) and kind == ("i" if _is_whole(each) else "d"):
            same = int(each) == int(shown) if kind == "i" else float(each) == float(shown)
            if same:
                return True
        if (
            kind == "s"
            and isinstance(each, str)
            and not isinstance(each, _Number)
            and each == shown
        ):
            return True
    return False


@function(T, T, returns=N)
def json_size(text: str, path: str) -> int | None:
    value = _at(text, path)
    if value is _MISSING:
        return None
    return len(value) if isinstance(value, dict | list) else 0


@function(T, returns=B)
def is_json_scalar(text: str) -> bool:
    value = _read(text)
    if value is _MISSING:
        raise ValueError(f"Invalid JSON value: {text[:200]}")
    return not isinstance(value, dict | list)


def _scalar_of(text: str, shown: str) -> Any:
    value = _read(text)
    if isinstance(value, dict | list) or value is _MISSING:
        raise ValueError(f"Cannot cast '{text[:200]}' to {shown}")
    return value


@function(T, returns=T)
def json_to_text(text: str) -> str | None:
    value = _scalar_of(text, "varchar")
    if value is None:
        return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, _Number) and not _is_whole(value):
        return double_text(repr(float(value)))
    return str(int(value)) if isinstance(value, _Number) else str(value)


@function(T, returns=T)
def json_to_double(text: str) -> str | None:
    value = _scalar_of(text, "double")
    if value is None:
        return None
    return double(str(value), "DOUBLE") if isinstance(value, str) else str(float(value))


@function(T, returns=N)
def json_to_integer(text: str) -> int | None:
    value = _scalar_of(text, "bigint")
    if value is None:
        return None
    if isinstance(value, _Number):
        return int(Decimal(value).quantize(Decimal(1), ROUND_HALF_UP))
    return int(value) if isinstance(value, bool) else integer(str(value), "INT")


@function(T, returns=B)
def json_to_boolean(text: str) -> bool | None:
    value = _scalar_of(text, "boolean")
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, _Number):
        if _is_whole(value) and abs(int(value)) >= 2**63:
            raise ValueError(f"Cannot cast '{text[:200]}' to boolean")
        return float(value) != 0
    return boolean(str(value))


@function(T, B, returns="VARCHAR[]")
def json_elements(text: str, keeps: bool) -> list[str | None] | None:
    value = _read(text)
    if value is None:
        return None
    if not isinstance(value, list):
        raise ValueError(f"Cannot cast to array. Expected a json array, but got {text[:200]}")
    return [
        None if each is None and not keeps else _written(each, is_escaped=False) for each in value
    ]


@function(T, B, returns="STRUCT(k VARCHAR, v VARCHAR)[]")
def json_members(text: str, keeps: bool) -> list[dict[str, str | None]] | None:
    value = _read(text)
    if value is None:
        return None
    if not isinstance(value, dict):
        raise ValueError(f"Cannot cast to map. Expected a json object, but got {text[:200]}")
    return [
        {"k": key, "v": None if each is None and not keeps else _written(each, is_escaped=False)}
        for key, each in value.items()
    ]


@function(T, "VARCHAR[]", B, returns="VARCHAR[]")
def json_fields(text: str, names: list[str], keeps: bool) -> list[str | None]:
    value = _read(text)
    if isinstance(value, dict):
        lower = {key.lower(): each for key, each in value.items()}
        if len(lower) < len(value):
            raise UnsupportedValueError(f"Cannot cast to row. Duplicate field: {text[:200]}")
        found = [lower.get(name.lower(), _MISSING) for name in names]
    elif isinstance(value, list) and len(value) == len(names):
        found = list(value)
    else:
        raise ValueError(f"Cannot cast to row: {text[:200]}")
    return [
        None
        if each is _MISSING or (each is None and not keeps)
        else _written(each, is_escaped=False)
        for each in found
    ]
