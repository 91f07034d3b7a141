"""Literals, constructors of arrays and rows, casts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime

from sqlglot import exp

from opentrail.lake.dialect.casts import cast, tried
from opentrail.lake.dialect.expressions import Expressions, calls, quoted, refusal, translates
from opentrail.lake.dialect.scopes import Scope, Value
from opentrail.lake.dialect.types import (
    BIGINT,
    BOOLEAN,
    DATE,
    DAYTIME,
    DOUBLE,
    INTEGER,
    JSON,
    UNKNOWN,
    VARBINARY,
    VARCHAR,
    YEARMONTH,
    Type,
    array,
    decimal,
    parse_type,
    row,
)

#: Milliseconds of an interval's unit.
UNITS = {"SECOND": 1_000, "MINUTE": 60_000, "HOUR": 3_600_000, "DAY": 86_400_000}
UNITS["WEEK"] = 7 * UNITS["DAY"]
_MONTHS = {"MONTH": 1, "YEAR": 12}
_STATED_TIME = re.compile(
    r"(\d{4}-\d{1,2}-\d{1,2}(?: \d{1,2}:\d{1,2}(?::\d{1,2}(?:\.(\d+))?)?)?)( ?(?:UTC|Z|\+00:00))?"
)


@translates(exp.Literal)
def _literal(e: Expressions, node: exp.Literal, scope: Scope) -> Value:
    text = node.this
    if node.is_string:
        return Value(quoted(text), VARCHAR, text)
    text = text.replace("_", "")
    if re.fullmatch(r"\d+", text):
        return integer_literal(node, int(text))
    if "e" in text.lower():
        return Value(f"CAST({quoted(text)} AS DOUBLE)", DOUBLE)
    return _decimal(node, text)


def _decimal(node: exp.Expr, text: str) -> Value:
    whole, _, part = text.lstrip("+-").partition(".")
    whole = whole.lstrip("0")
    kind = decimal(max(len(whole) + len(part), 1), len(part))
    if len(whole) + len(part) > 38:
        raise refusal(node, f"Invalid numeric literal: {text}")
    return Value(f"CAST({quoted(text)} AS {kind.engine})", kind)


def integer_literal(node: exp.Expr, number: int) -> Value:
    if not -(2**63) <= number < 2**63:
        raise refusal(node, f"Invalid numeric literal: {number}")
    kind = INTEGER if -(2**31) <= number < 2**31 else BIGINT
    return Value(f"CAST({number} AS {kind.engine})", kind)


@translates(exp.Null)
def _null(e: Expressions, node: exp.Null, scope: Scope) -> Value:
    return Value("NULL", UNKNOWN)


@translates(exp.Boolean)
def _boolean(e: Expressions, node: exp.Boolean, scope: Scope) -> Value:
    return Value("true" if node.this else "false", BOOLEAN)


@translates(exp.HexString)
def _hex(e: Expressions, node: exp.HexString, scope: Scope) -> Value:
    return Value(f"unhex({quoted(node.this)})", VARBINARY)


@translates(exp.Interval)
def _interval(e: Expressions, node: exp.Interval, scope: Scope) -> Value:
    unit, amount = node.args.get("unit"), node.this
    if not isinstance(amount, exp.Literal) or unit is None:
        raise refusal(node, "INTERVAL needs a number in quotes and a unit")
    text, sign = amount.this.strip(), 1
    if text[:1] in "+-":
        text, sign = text[1:].strip(), -1 if text[0] == "-" else 1
    if isinstance(unit, exp.IntervalSpan):
        found = re.fullmatch(r"(\d+) (\d+)(?::(\d+)(?::(\d+)(?:\.(\d{1,3}))?)?)?", text)
        units = unit.this.name.upper(), unit.expression.name.upper()
        last = {"HOUR": 1, "MINUTE": 2, "SECOND": 3}.get(units[1])
        given = found and sum(each is not None for each in found.groups()[1:4])
        if found is None or units[0] != "DAY" or last != given:
            raise refusal(node, f"Invalid INTERVAL literal: {amount.this}")
        parts = [int(each or 0) for each in found.groups()[:4]]
        scales = ("DAY", "HOUR", "MINUTE", "SECOND")
        total = sum(part * UNITS[scale] for part, scale in zip(parts, scales, strict=True))
        total += int((found[5] or "0").ljust(3, "0"))
        return Value(f"CAST({sign * total} AS BIGINT)", DAYTIME)
    name = unit.name.upper().removesuffix("S") if unit.name.islower() else unit.name.upper()
    if name in UNITS and re.fullmatch(r"\d+(\.\d{1,3})?" if name == "SECOND" else r"\d+", text):
        return Value(f"CAST({sign * round(float(text) * UNITS[name])} AS BIGINT)", DAYTIME)
    if name in _MONTHS and text.isdecimal():
        return Value(f"CAST({sign * int(text) * _MONTHS[name]} AS BIGINT)", YEARMONTH)
    raise refusal(node, f"Invalid INTERVAL literal: {amount.this} {name}")


@translates(exp.Array)
def _array(e: Expressions, node: exp.Array, scope: Scope) -> Value:
    values = [e.value(each, scope) for each in node.expressions]
    kind = e.one_type(values, node, "All ARRAY elements must be the same type")
    if kind == UNKNOWN:
        items = ", ".join("NULL" for _ in values)
        return Value(f"CAST([{items}] AS INTEGER[])", array(UNKNOWN))
    return Value(f"[{', '.join(e.as_type(each, kind, node) for each in values)}]", array(kind))


@translates(exp.Tuple)
@calls("row")
def _tuple(e: Expressions, node: exp.Expr, scope: Scope) -> Value:
    return _row(e, [e.value(each, scope) for each in node.expressions])


def _row(e: Expressions, values: Sequence[Value]) -> Value:
    packed = ", ".join(f"'f{n}': {value.sql}" for n, value in enumerate(values))
    return Value(f"{{{packed}}}", row(*((None, value.type) for value in values)))


@translates(exp.Paren)
def _paren(e: Expressions, node: exp.Paren, scope: Scope) -> Value:
    return e.value(node.this, scope)


@translates(exp.Cast, exp.TryCast)
def _cast(e: Expressions, node: exp.Cast, scope: Scope) -> Value:
    written = node.to.meta.get("text") or node.to.sql(dialect="trino")
    kind = parse_type(written)
    if kind is None:
        raise refusal(node, f"Unknown type: {written.lower()}")
    if node.meta.get("is_literal"):
        return _typed_literal(e, node, kind)
    value = e.value(node.this, scope)
    sql = cast(value.sql, value.type, kind)
    if sql is None:
        raise refusal(node, f"Cannot cast {value.type} to {kind}")
    length = re.fullmatch(r"varchar\((\d+)\)", written.lower())
    if length and value.type == VARCHAR:
        sql = f"{sql}[:{length[1]}]"
    elif length:
        sql = f"lake_short({sql}, {length[1]})"
    return Value(tried(sql) if isinstance(node, exp.TryCast) else sql, kind)


def _typed_literal(e: Expressions, node: exp.Cast, kind: Type) -> Value:
    text = node.this.this
    if kind.name in ("timestamp", "timestamptz"):
        found = _STATED_TIME.fullmatch(text)
        try:
            if found is None:
                raise ValueError
            stamp = re.sub(r"\b(\d)\b", r"0\1", found[1].partition(".")[0])
            datetime.fromisoformat(stamp)
        except ValueError:
            raise refusal(
                node, f"'{text}' is not a valid TIMESTAMP literal, or has a zone other than UTC"
            ) from None
        digits = len(found[2] or "")
        if digits > 6:
            raise refusal(node, "times with more than 6 digits of a second are not supported")
        name = "timestamptz" if found[3] else "timestamp"
        fraction = f".{found[2]}" if found[2] else ""
        sql = f"CAST({quoted(stamp + fraction)} AS TIMESTAMP)"
        return Value(sql, Type(name, precision=digits))
    if kind == DATE:
        try:
            return Value(f"CAST({quoted(date.fromisoformat(text).isoformat())} AS DATE)", DATE)
        except ValueError:
            raise refusal(node, f"'{text}' is not a valid DATE literal") from None
    if kind.name == "decimal":
        if not re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", text, re.ASCII):
            raise refusal(node, f"'{text}' is not a valid DECIMAL literal")
        return _decimal(node, text)
    converted = cast(quoted(text), VARCHAR, kind)
    if converted is None:
        raise refusal(node, f"{kind} literals are not supported")
    return Value(converted, kind)


@translates(exp.ParseJSON)
def _json_literal(e: Expressions, node: exp.ParseJSON, scope: Scope) -> Value:
    value = e.value(node.this, scope)
    return Value(f"lake_json_parse({value.sql})", JSON)
