"""Arithmetic of numbers, times and intervals, and concatenation."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from opentrail.lake.dialect.casts import coerced
from opentrail.lake.dialect.expressions import Expressions, refusal, translates
from opentrail.lake.dialect.literals import integer_literal
from opentrail.lake.dialect.scopes import Scope, Value
from opentrail.lake.dialect.types import (
    DATE,
    DAYTIME,
    DOUBLE,
    VARBINARY,
    VARCHAR,
    array,
    as_decimal,
    coerces,
    common,
    decimal,
)

_ARITHMETIC: dict[type[exp.Expr], str] = {
    exp.Add: "+",
    exp.Sub: "-",
    exp.Mul: "*",
    exp.Div: "/",
    exp.Mod: "%",
}


@translates(*_ARITHMETIC)
def arithmetic(e: Expressions, node: exp.Binary, scope: Scope) -> Value:
    left, right = e.value(node.left, scope), e.value(node.right, scope)
    operator = _ARITHMETIC[type(node)]
    if left.type.is_number and right.type.is_number:
        return _calculated(e, left, operator, right)
    moved = _moved(e, left, operator, right, node)
    if moved is None:
        raise refusal(node, f"Cannot apply operator: {left.type} {operator} {right.type}")
    return moved


def _calculated(e: Expressions, left: Value, operator: str, right: Value) -> Value:
    kind = common(left.type, right.type) or DOUBLE  # numbers always have one
    if kind.name != "decimal":
        a, b = coerced(left.sql, left.type, kind), coerced(right.sql, right.type, kind)
        if kind.is_integer and operator in "/%":
            name = "lake_divide" if operator == "/" else "lake_modulo"
            return Value(f"CAST({name}({a}, {b}) AS {kind.engine})", kind)
        if operator == "/":
            return Value(f"CAST(lake_divide_doubles({a}, {b}) AS {kind.engine})", kind)
        if operator == "%":
            return Value(f"CAST(lake_modulo_doubles({a}, {b}) AS {kind.engine})", kind)
        return Value(f"({a} {operator} {b})", kind)
    return _of_decimals(left, operator, right)


def _of_decimals(left: Value, operator: str, right: Value) -> Value:
    a, b = as_decimal(left.type), as_decimal(right.type)
    first, second = coerced(left.sql, left.type, a), coerced(right.sql, right.type, b)
    scale = max(a.scale, b.scale)
    if operator in "+-":
        digits = max(a.precision - a.scale, b.precision - b.scale)
        kind = decimal(digits + scale + 1, scale)
        sql = f"CAST({first} AS {kind.engine}) {operator} CAST({second} AS {kind.engine})"
        return Value(f"CAST(({sql}) AS {kind.engine})", kind)
    if operator == "*":
        kind = decimal(a.precision + b.precision, min(38, a.scale + b.scale))
    elif operator == "/":
        kind = decimal(a.precision + b.scale + max(0, b.scale - a.scale), scale)
    else:
        digits = min(a.precision - a.scale, b.precision - b.scale)
        kind = decimal(digits + scale, scale)
    texts = f"CAST({first} AS VARCHAR), CAST({second} AS VARCHAR)"
    sql = f"lake_decimals({texts}, '{operator}', {kind.precision}, {kind.scale})"
    return Value(f"CAST({sql} AS {kind.engine})", kind)


def _moved(
    e: Expressions, left: Value, operator: str, right: Value, node: exp.Expr
) -> Value | None:
    """Adds, subtracts and multiplies times and intervals."""
    a, b = left.type.name, right.type.name
    intervals = ("interval day to second", "interval year to month")
    times = ("date", "timestamp", "timestamptz")
    if a in intervals and b in times and operator == "+":
        left, right, a, b = right, left, b, a
    if a in times and b in intervals and operator in ("+", "-"):
        amount = right.sql if operator == "+" else f"(-{right.sql})"
        if b == intervals[1]:
            return Value(add(e, "month", amount, left), left.type)
        if a == "date":
            return Value(f"lake_date_plus({left.sql}, {amount})", DATE)
        kind = replace(left.type, precision=max(3, left.type.precision))
        return Value(f"({left.sql} + to_milliseconds({amount}))", kind)
    if a in times and b in times and operator == "-":
        if max(left.type.precision, right.type.precision) > 3:
            raise refusal(node, "differences below a millisecond are not supported")
        kind = common(left.type, right.type) or left.type  # times always have one
        first, second = (coerced(each.sql, each.type, kind) for each in (left, right))
        sql = f"datesub('millisecond', {second}::TIMESTAMP, {first}::TIMESTAMP)"
        return Value(sql, DAYTIME)
    if a == b and a in intervals and operator in ("+", "-"):
        return Value(f"({left.sql} {operator} {right.sql})", left.type)
    if b in intervals and left.type.is_integer and operator == "*":
        left, right, a, b = right, left, b, a
    if a in intervals and right.type.is_integer and operator in ("*", "/"):
        sql = (
            f"lake_divide({left.sql}, {right.sql})"
            if operator == "/"
            else f"({left.sql} * {right.sql})"
        )
        return Value(f"CAST({sql} AS BIGINT)", left.type)
    return None


def add(e: Expressions, unit: str, amount: str, time: Value) -> str:
    moved = f"lake_add_{unit}s({time.sql}, {amount})"
    return f"CAST({moved} AS DATE)" if time.type == DATE else moved


@translates(exp.Neg)
def _negative(e: Expressions, node: exp.Neg, scope: Scope) -> Value:
    literal = node.this
    if isinstance(literal, exp.Literal) and not literal.is_string and literal.this.isdecimal():
        return integer_literal(node, -int(literal.this))
    value = e.value(node.this, scope)
    if not value.type.is_number and not value.type.name.startswith("interval"):
        raise refusal(node, f"Cannot negate {value.type}")
    return Value(f"CAST((-{value.sql}) AS {value.type.engine})", value.type)


@translates(exp.DPipe)
def _concatenation(e: Expressions, node: exp.DPipe, scope: Scope) -> Value:
    operands, each = [], node
    while isinstance(each, exp.DPipe):
        operands.append(each.expression)
        each = each.this
    values = [e.value(operand, scope) for operand in [each, *reversed(operands)]]
    total = values[0]
    for value in values[1:]:
        total = _joined(e, total, value, node)
    return total


def _joined(e: Expressions, left: Value, right: Value, node: exp.Expr) -> Value:
    for kind in (VARCHAR, VARBINARY):
        if coerces(left.type, kind) and coerces(right.type, kind):
            return Value(f"({e.as_type(left, kind, node)} || {e.as_type(right, kind, node)})", kind)
    if left.type.name == "array" and right.type.name != "array":
        right = Value(f"[{right.sql}]", array(right.type))
    elif right.type.name == "array" and left.type.name != "array":
        left = Value(f"[{left.sql}]", array(left.type))
    if left.type.name == right.type.name == "array":
        both = common(left.type, right.type)
        if both is not None:
            a, b = coerced(left.sql, left.type, both), coerced(right.sql, right.type, both)
            return Value(f"lake_concat({a}, {b})", both)
    raise refusal(node, f"Unexpected parameters ({left.type}, {right.type}) for function concat")
