"""Trino's types: their names, which of them coerce, and how DuckDB stores their values.

Source: https://trino.io/docs/current/language/types.html and `TypeCoercion` of Trino 476.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

_MAX_DIGITS = 38


@dataclass(frozen=True, slots=True)
class Type:
    """A type of Trino's, such as `varchar` or `map(varchar, bigint)`.

    Attributes:
        name: the type without arguments; `varchar` never states a length.
        args: types of elements, of key and value, or of fields.
        fields: names of a row's fields; None for an unnamed field.
        precision: digits of a decimal, or of a second's fraction.
        scale: digits of a decimal after the point.
    """

    name: str
    args: tuple[Type, ...] = ()
    fields: tuple[str | None, ...] = ()
    precision: int = 0
    scale: int = 0

    def __str__(self) -> str:
        if self.name == "decimal":
            return f"decimal({self.precision}, {self.scale})"
        if self.name in ("timestamp", "time"):
            return f"{self.name}({self.precision})"
        if self.name == "timestamptz":
            return f"timestamp({self.precision}) with time zone"
        if self.name == "row":
            pairs = zip(self.fields, self.args, strict=True)
            return (
                f"row({', '.join(f'{name} {kind}' if name else str(kind) for name, kind in pairs)})"
            )
        if self.args:
            return f"{self.name}({', '.join(map(str, self.args))})"
        return self.name

    @property
    def engine(self) -> str:
        """DuckDB's type for its values: intervals are milliseconds or months, JSON is text."""
        if self.name == "decimal":
            return f"DECIMAL({self.precision}, {self.scale})"
        if self.name == "array":
            return f"{self.args[0].engine}[]"
        if self.name == "map":
            return f"MAP({self.args[0].engine}, {self.args[1].engine})"
        if self.name == "row":
            kinds = ", ".join(f"f{n} {kind.engine}" for n, kind in enumerate(self.args))
            return f"STRUCT({kinds})"
        return _ENGINE[self.name]

    @property
    def is_number(self) -> bool:
        return self.name in _NUMBERS

    @property
    def is_integer(self) -> bool:
        return self.name in _INTEGERS

    @property
    def is_orderable(self) -> bool:
        if self.name in ("map", "json", "function"):
            return False
        return all(kind.is_orderable for kind in self.args)

    def field(self, name: str) -> int | None:
        """Returns the index of a row's field, by its name in any case."""
        for index, each in enumerate(self.fields):
            if each is not None and each.lower() == name.lower():
                return index
        return None


_ENGINE = {
    "unknown": "INTEGER",
    "boolean": "BOOLEAN",
    "tinyint": "TINYINT",
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double": "DOUBLE",
    "varchar": "VARCHAR",
    "json": "VARCHAR",
    "varbinary": "BLOB",
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP",
    "interval day to second": "BIGINT",
    "interval year to month": "BIGINT",
    "ipaddress": "BLOB",
    "uuid": "UUID",
}
_INTEGERS = ("tinyint", "smallint", "integer", "bigint")
_NUMBERS = (*_INTEGERS, "decimal", "real", "double")
#: Digits of an integer as a decimal.
_DIGITS = {"tinyint": 3, "smallint": 5, "integer": 10, "bigint": 19}

UNKNOWN = Type("unknown")
BOOLEAN = Type("boolean")
TINYINT, SMALLINT, INTEGER, BIGINT = map(Type, _INTEGERS)
REAL = Type("real")
DOUBLE = Type("double")
VARCHAR = Type("varchar")
VARBINARY = Type("varbinary")
JSON = Type("json")
DATE = Type("date")
TIMESTAMP = Type("timestamp", precision=3)
TIMESTAMPTZ = Type("timestamptz", precision=3)
DAYTIME = Type("interval day to second")
YEARMONTH = Type("interval year to month")
IPADDRESS = Type("ipaddress")
UUID = Type("uuid")


def decimal(precision: int, scale: int) -> Type:
    return Type("decimal", precision=min(precision, _MAX_DIGITS), scale=scale)


def array(element: Type) -> Type:
    return Type("array", (element,))


def map_of(key: Type, value: Type) -> Type:
    return Type("map", (key, value))


def row(*fields: tuple[str, Type] | tuple[None, Type] | tuple[str | None, Type]) -> Type:
    return Type("row", tuple(kind for _, kind in fields), tuple(name for name, _ in fields))


def as_decimal(kind: Type) -> Type:
    """Returns the decimal type that holds every value of an integer type."""
    return kind if kind.name == "decimal" else decimal(_DIGITS[kind.name], 0)


def common(left: Type, right: Type) -> Type | None:
    """Returns the type to which both coerce, or None."""
    if left == right or right.name == "unknown":
        return left
    if left.name == "unknown":
        return right
    if left.is_number and right.is_number:
        return _common_number(left, right)
    names = {left.name, right.name}
    precision = max(left.precision, right.precision)
    if names <= {"date", "timestamp", "timestamptz"}:
        return Type("timestamptz" if "timestamptz" in names else "timestamp", precision=precision)
    if names == {"time"}:
        return Type("time", precision=precision)
    if len(names) == 1 and left.args and len(left.args) == len(right.args):
        kinds = [common(a, b) for a, b in zip(left.args, right.args, strict=True)]
        if None in kinds:
            return None
        fields = tuple(
            a if a is not None and a == b else None
            for a, b in zip(left.fields, right.fields, strict=True)
        )
        return replace(left, args=tuple(kind for kind in kinds if kind), fields=fields)
    return None


def _common_number(left: Type, right: Type) -> Type:
    names = {left.name, right.name}
    if "double" in names:
        return DOUBLE
    if "real" in names:
        return REAL
    if "decimal" not in names:
        return max(left, right, key=lambda kind: _INTEGERS.index(kind.name))
    a, b = as_decimal(left), as_decimal(right)
    scale = max(a.scale, b.scale)
    return decimal(max(a.precision - a.scale, b.precision - b.scale) + scale, scale)


def coerces(source: Type, target: Type) -> bool:
    """Returns whether values of a type are accepted where another type is expected."""
    if source.name == target.name == "row":
        return len(source.args) == len(target.args) and all(map(coerces, source.args, target.args))
    return common(source, target) == target


_WORD = re.compile(r'\s*(\w+|"[^"]*"|[(),])')


def parse_type(text: str) -> Type | None:
    """Parses a type name; None if it is unknown.

    A row's fields have names; a type variable is a name of one capital letter.
    """
    words = _WORD.findall(text)
    if "".join(words).replace('"', "") != re.sub(r'[\s"]', "", text):
        return None
    try:
        kind, rest = _parse(words)
    except (IndexError, ValueError, KeyError):
        return None
    return None if rest else kind


def _parse(words: list[str]) -> tuple[Type, list[str]]:
    name, rest = words[0], words[1:]
    if len(name) == 1 and name.isupper():
        return Type(name), rest
    name = _ALIASES.get(name.lower(), name.lower())
    if name == "interval":
        return Type(f"interval {' '.join(rest[:3]).lower()}"), rest[3:]
    arguments, rest = _arguments(rest)
    if name in ("timestamp", "time"):
        return _time(name, arguments, rest)
    if name == "row":
        return row(*map(_field, arguments)), rest
    if name in ("array", "map", "fn"):
        parts = [_whole(each) for each in arguments]
        if len(parts) != {"array": 1, "map": 2}.get(name, len(parts)):
            raise ValueError(name)
        return Type("function" if name == "fn" else name, tuple(parts)), rest
    if name == "decimal":
        return _decimal(arguments), rest
    if name == "varchar":
        return VARCHAR, rest
    if arguments or name not in _ENGINE:
        raise ValueError(name)
    return Type(name), rest


def _arguments(words: list[str]) -> tuple[list[list[str]], list[str]]:
    """Splits the words in parentheses at commas; returns them, and the words behind."""
    if words[:1] != ["("]:
        return [], words
    found: list[list[str]] = [[]]
    depth = 1
    for used, word in enumerate(words[1:], 2):
        depth += {"(": 1, ")": -1}.get(word, 0)
        if depth == 0:
            return found, words[used:]
        if depth == 1 and word == ",":
            found.append([])
        else:
            found[-1].append(word)
    raise ValueError("parentheses")


def _whole(words: list[str]) -> Type:
    kind, rest = _parse(words)
    if rest:
        raise ValueError(rest)
    return kind


def _field(words: list[str]) -> tuple[str | None, Type]:
    if len(words) > 1 and words[1] != "(":
        try:
            return words[0].strip('"'), _whole(words[1:])
        except ValueError:
            pass
    return None, _whole(words)


def _time(name: str, arguments: list[list[str]], rest: list[str]) -> tuple[Type, list[str]]:
    precision = int(arguments[0][0]) if arguments else 3
    if precision > 6:
        raise ValueError(name)
    if [word.lower() for word in rest[:3]] != ["with", "time", "zone"]:
        return Type(name, precision=precision), rest
    if name == "time":
        raise ValueError(name)
    return Type("timestamptz", precision=precision), rest[3:]


def _decimal(arguments: list[list[str]]) -> Type:
    precision = int(arguments[0][0]) if arguments else _MAX_DIGITS
    scale = int(arguments[1][0]) if len(arguments) > 1 else 0
    if not 1 <= precision <= _MAX_DIGITS or scale > precision:
        raise ValueError(precision)
    return decimal(precision, scale)


_ALIASES = {"int": "integer"}
