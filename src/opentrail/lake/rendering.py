"""Result values as text, as CloudTrail Lake and Athena return them."""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Callable, Sequence
from datetime import datetime
from struct import pack
from typing import Any

from opentrail.lake.dialect.number_functions import java_double
from opentrail.lake.dialect.time_functions import interval_text
from opentrail.lake.dialect.types import Type


def text(value: Any, kind: Type) -> str | None:
    """Returns a value of DuckDB's as text; None for NULL.

    Rows and maps read `{a=1, b=2}`, arrays `[1, 2]`; NULL inside them is `null`.
    """
    if value is None:
        return None
    render = _TEXTS.get(kind.name)
    return str(value) if render is None else render(value, kind)


def renderers(kinds: Sequence[Type]) -> list[Callable[[Any], str | None] | None]:
    """Returns what shows the values of each column; None: they are text."""
    return [None if kind.name in ("varchar", "json") else _renderer(kind) for kind in kinds]


def _renderer(kind: Type) -> Callable[[Any], str | None]:
    return lambda value: text(value, kind)


def row_of(kinds: Sequence[Type]) -> str | None:
    """Returns DuckDB's expression of a row's texts as a JSON list, over the columns r0, r1, ….

    None: DuckDB shows a value of these types in another way.
    """
    texts = [
        _TIME_TEXTS.get(kind.precision) if kind.name == "timestamp" else _TEXT_CASTS.get(kind.name)
        for kind in kinds
    ]
    shown = [each.format(f"r{n}") for n, each in enumerate(texts) if each is not None]
    return f"to_json([{', '.join(shown)}])::VARCHAR" if len(shown) == len(kinds) else None


def _inside(value: Any, kind: Type) -> str:
    shown = text(value, kind)
    return "null" if shown is None else shown


def _array(value: list[Any], kind: Type) -> str:
    return f"[{', '.join(_inside(each, kind.args[0]) for each in value)}]"


def _map(value: dict[Any, Any], kind: Type) -> str:
    keys, values = kind.args
    pairs = (f"{_inside(key, keys)}={_inside(each, values)}" for key, each in value.items())
    return f"{{{', '.join(pairs)}}}"


def _row(value: dict[str, Any], kind: Type) -> str:
    fields = enumerate(zip(kind.fields, value.values(), kind.args, strict=True))
    shown = (
        f"{name.lower() if name else f'field{number}'}={_inside(each, own)}"
        for number, (name, each, own) in fields
    )
    return f"{{{', '.join(shown)}}}"


def _time(value: datetime, kind: Type) -> str:
    shown = value.isoformat(" ", "microseconds")
    # 19 characters, a point, and the digits
    shown = shown[: 20 + kind.precision] if kind.precision else shown[:19]
    return f"{shown} UTC" if kind.name == "timestamptz" else shown


def _real(value: float, _kind: Type) -> str:
    """Returns the shortest number that is the same `real`."""
    numbers = (float(f"{value:.{digits}g}") for digits in range(6, 10))
    return java_double(next(n for n in numbers if pack("f", n) == pack("f", value)))


def _months(value: int, _kind: Type) -> str:
    return f"{'-' if value < 0 else ''}{abs(value) // 12}-{abs(value) % 12}"


def _address(value: bytes, _kind: Type) -> str:
    address = ipaddress.IPv6Address(value)
    return str(address.ipv4_mapped or address)


#: Types whose values DuckDB shows like Trino.
_TEXT_CASTS = {
    **dict.fromkeys(("varchar", "json"), "{}"),
    **dict.fromkeys(("boolean", "tinyint", "smallint", "integer", "bigint"), "{}::VARCHAR"),
}
#: The same of times, by their digits.
_TIME_TEXTS = {
    0: "strftime({}, '%Y-%m-%d %H:%M:%S')",
    3: "strftime({}, '%Y-%m-%d %H:%M:%S.%g')",
    6: "strftime({}, '%Y-%m-%d %H:%M:%S.%f')",
}
_TEXTS: dict[str, Callable[[Any, Type], str]] = {
    "array": _array,
    "map": _map,
    "row": _row,
    "timestamp": _time,
    "timestamptz": _time,
    "double": lambda value, _: java_double(value),
    "real": _real,
    "boolean": lambda value, _: "true" if value else "false",
    "interval day to second": lambda value, _: interval_text(value),
    "interval year to month": _months,
    "ipaddress": _address,
    "varbinary": lambda value, _: base64.b16encode(value).decode().lower(),
}
