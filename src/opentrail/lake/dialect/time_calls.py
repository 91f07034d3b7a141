"""Time functions that depend on a unit, such as `date_trunc`."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from opentrail.lake.dialect.arithmetic import add
from opentrail.lake.dialect.calls import arguments_of, translate_call
from opentrail.lake.dialect.casts import cast, coerced
from opentrail.lake.dialect.expressions import Expressions, calls, refusal, translates
from opentrail.lake.dialect.literals import UNITS
from opentrail.lake.dialect.scopes import Scope, Value
from opentrail.lake.dialect.types import BIGINT, DATE, TIMESTAMPTZ, VARCHAR, common

_DATE_UNITS = ("day", "week", "month", "quarter", "year")
_TIME_UNITS = ("millisecond", "second", "minute", "hour", *_DATE_UNITS)
_EXTRACTS = frozenset(
    [
        "year",
        "quarter",
        "month",
        "week",
        "week_of_year",
        "day",
        "day_of_month",
        "day_of_week",
        "dow",
        "day_of_year",
        "doy",
        "year_of_week",
        "yow",
        "hour",
        "minute",
        "second",
    ]
)


@calls("date")
def _date(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    (argument,) = arguments_of(node, 1)
    value = e.value(argument, scope)
    sql = cast(value.sql, value.type, DATE)
    if sql is None or value.type.is_number:
        raise refusal(node, f"Unexpected parameters ({value.type}) for function date")
    return Value(sql, DATE)


def _unit(node: exp.Expr, time: Value) -> str:
    units = _DATE_UNITS if time.type == DATE else _TIME_UNITS
    if not isinstance(node, exp.Literal) or not node.is_string:
        raise refusal(node, "the unit must be a string literal")
    unit: str = node.this.lower()
    if unit not in units:
        shown = "DATE" if time.type == DATE else "TIMESTAMP"
        raise refusal(node, f"'{node.this}' is not a valid {shown} field")
    return unit


def _time(e: Expressions, node: exp.Expr, scope: Scope, name: str) -> Value:
    value = e.value(node, scope)
    if value.type.name not in ("date", "timestamp", "timestamptz"):
        raise refusal(node, f"Unexpected parameters for function {name}: {value.type}")
    return value


@calls("date_trunc")
def _date_trunc(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    unit, argument = arguments_of(node, 2)
    value = _time(e, argument, scope, "date_trunc")
    name = _unit(unit, value)
    sql = f"CAST(date_trunc('{name}', {value.sql}) AS {value.type.engine})"
    return Value(sql, value.type)


@calls("date_add")
def _date_add(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    unit, amount, argument = arguments_of(node, 3)
    value, number = _time(e, argument, scope, "date_add"), e.value(amount, scope)
    if not number.type.is_integer:
        raise refusal(node, f"Unexpected parameters for function date_add: {number.type}")
    name = _unit(unit, value)
    by = f"CAST({number.sql} AS BIGINT)"
    if name in ("month", "quarter", "year"):
        months = {"month": 1, "quarter": 3, "year": 12}[name]
        return Value(add(e, "month", f"({by} * {months})", value), value.type)
    step = {"millisecond": 1, **{key.lower(): each for key, each in UNITS.items()}}[name]
    sql = f"({value.sql} + to_milliseconds({by} * {step}))"
    if value.type.precision < 3 and value.type != DATE:
        sql = f"lake_round_time({sql}, {10 ** (6 - value.type.precision)})"
    return Value(f"CAST({sql} AS DATE)" if value.type == DATE else sql, value.type)


@calls("date_diff")
def _date_diff(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    unit, first, second = arguments_of(node, 3)
    a, b = _time(e, first, scope, "date_diff"), _time(e, second, scope, "date_diff")
    kind = common(a.type, b.type) or a.type  # times always have one
    name = _unit(unit, Value("", kind))
    texts = [f"CAST({coerced(each.sql, each.type, kind)} AS TIMESTAMP)" for each in (a, b)]
    if kind.precision > 3:  # it counts whole milliseconds
        texts = [f"date_trunc('millisecond', {text})" for text in texts]
    return Value(f"datesub('{name}', {', '.join(texts)})", BIGINT)


@calls("to_iso8601")
def _to_iso8601(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    (argument,) = arguments_of(node, 1)
    value = _time(e, argument, scope, "to_iso8601")
    if value.type == DATE:
        return Value(f"CAST({value.sql} AS VARCHAR)", VARCHAR)
    shown = f"replace(lake_time_text({value.sql}, {value.type.precision}), ' ', 'T')"
    return Value(f"({shown} || 'Z')" if value.type.name == "timestamptz" else shown, VARCHAR)


@translates(exp.Extract)
def _extract(e: Expressions, node: exp.Extract, scope: Scope) -> Value:
    unit = node.this.name.lower()
    if unit not in _EXTRACTS:
        raise refusal(
            node,
            f"Invalid EXTRACT field {unit}, valid fields: {', '.join(sorted(_EXTRACTS))}",
        )
    call = exp.Anonymous(this=unit, expressions=[node.expression])
    return translate_call(e, call, scope)


@translates(exp.CurrentTimestamp)
def _now(e: Expressions, node: exp.Expr, scope: Scope) -> Value:
    digits = node.args.get("this")
    if digits is not None and int(digits.this) > 6:
        raise refusal(node, "times with more than 6 digits of a second are not supported")
    kind = replace(TIMESTAMPTZ, precision=int(digits.this) if digits is not None else 3)
    scale = 10 ** (6 - kind.precision)
    return Value(f"lake_round_time(lake_now(), {scale})", kind)


@calls("now")
def _now_call(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    arguments_of(node, 0)
    return _now(e, exp.CurrentTimestamp(), scope)


@translates(exp.CurrentDate)
def _today(e: Expressions, node: exp.Expr, scope: Scope) -> Value:
    return Value("CAST(lake_now() AS DATE)", DATE)


@calls("with_timezone")
def _with_timezone(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    argument, zone = arguments_of(node, 2)
    value = e.value(argument, scope)
    if value.type.name != "timestamp" or e.value(zone, scope).text != "UTC":
        raise refusal(node, "zones other than UTC are not supported")
    return Value(value.sql, replace(value.type, name="timestamptz"))


@translates(exp.AtTimeZone)
def _at_time_zone(e: Expressions, node: exp.AtTimeZone, scope: Scope) -> Value:
    value = e.value(node.this, scope)
    if value.type.name not in ("timestamp", "timestamptz"):
        raise refusal(node, f"Type of value must be a time or timestamp (actual {value.type})")
    if e.value(node.args["zone"], scope).text != "UTC":
        raise refusal(node, "zones other than UTC are not supported")
    return Value(value.sql, replace(value.type, name="timestamptz"))
