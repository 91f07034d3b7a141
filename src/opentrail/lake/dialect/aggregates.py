"""Aggregates and window functions."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from opentrail.lake.dialect import functions
from opentrail.lake.dialect.expressions import Expressions, calls, quoted, refusal, translates
from opentrail.lake.dialect.scopes import Scope, Value
from opentrail.lake.dialect.types import BIGINT, INTEGER, VARCHAR, array, decimal


@translates(exp.GroupConcat)
def aggregate(e: Expressions, node: exp.Expr, scope: Scope) -> Value:
    if scope.grouping is None:
        raise refusal(node, scope.refuses_aggregates or "an aggregate is not allowed here")
    return _aggregated(e, node, scope.grouping.source, "")


def _aggregated(e: Expressions, node: exp.Expr, source: Scope, over: str) -> Value:
    """Translates a call of an aggregate, its arguments in `source`."""
    condition, call = "", node
    if isinstance(call, exp.Filter):
        test = e.condition(call.expression.this, source, "FILTER clause")
        condition, call = f" FILTER (WHERE {test})", call.this
    if source.grouping is None:
        source = replace(
            source,
            refuses_aggregates="Cannot nest aggregations inside aggregation",
            refuses_windows="Cannot nest window functions inside aggregation",
        )
    if isinstance(call, exp.GroupConcat):
        return _listagg(e, call, source, condition, over)
    name = str(call.this).lower()
    arguments = list(call.expressions)
    if name == "count" and (not arguments or isinstance(arguments[0], exp.Star)):
        return Value(f"count(*){condition}{over}", BIGINT)
    arguments, distinct, order = _clauses(e, name, arguments, node, source)
    values = [e.value(each, source) for each in arguments]
    if order and distinct:
        shown = re.sub(r" (ASC|DESC) NULLS (LAST|FIRST)\Z", "", order.removeprefix(" ORDER BY "))
        if shown != values[0].sql:
            message = "For aggregate function with DISTINCT, ORDER BY expressions must appear"
            raise refusal(node, f"{message} in arguments")

    def finish(sql: str) -> str:
        return _with_clauses(sql, distinct, order, condition, over)

    special = _special_aggregate(name, values)
    if special is not None:
        return Value(finish(special.sql), special.type)
    return e.matched(name, functions.aggregates.get(name), node, values, source, finish)


def _clauses(
    e: Expressions, name: str, arguments: list[exp.Expr], node: exp.Expr, source: Scope
) -> tuple[list[exp.Expr], str, str]:
    """Returns the arguments of a call without DISTINCT and ORDER BY, and these two as SQL."""
    distinct, order = "", ""
    if arguments and isinstance(arguments[0], exp.Distinct):
        distinct, arguments = "DISTINCT ", list(arguments[0].expressions)
        if len(arguments) != 1:
            raise refusal(node, f"DISTINCT with several arguments of {name} is not supported")
    last = arguments[-1] if arguments else None
    if isinstance(last, exp.Order):
        order = e.order(last.expressions, source)
        arguments[-1] = last.this
        if isinstance(last.this, exp.Distinct):
            distinct, arguments = "DISTINCT ", list(last.this.expressions)
    if (distinct or order) and name not in _ORDERED:
        raise refusal(node, f"DISTINCT and ORDER BY are not supported in {name}")
    return arguments, distinct, order


def _special_aggregate(name: str, values: Sequence[Value]) -> Value | None:
    """`sum` and `avg` of decimals, `min_by` of several."""
    if name in ("sum", "avg") and len(values) == 1 and values[0].type.name == "decimal":
        kind = values[0].type
        total = f"sum({values[0].sql})"
        result = decimal(38, kind.scale)
        if name == "sum":
            return Value(f"CAST({total} AS {result.engine})", result)
        return Value(f"lake_mean(list({values[0].sql}), {kind.scale})::{kind.engine}", kind)
    if name in ("min_by", "max_by") and len(values) == 3:
        first, key, number = values
        if name == "max_by" and key.type.name in ("double", "real"):
            key = replace(key, sql=f"lake_no_nan({key.sql})")
        function = "arg_min" if name == "min_by" else "arg_max"
        sql = f"lake_values({function}({{'f': {first.sql}}}, {key.sql}, lake_count({number.sql})))"
        return Value(sql, array(first.type))
    return None


def _listagg(
    e: Expressions, call: exp.GroupConcat, source: Scope, condition: str, over: str
) -> Value:
    order, inner = "", call.this
    if isinstance(inner, exp.Order):
        order = e.order(inner.expressions, source)
        inner = inner.this
    distinct = ""
    if isinstance(inner, exp.Distinct):
        distinct, inner = "DISTINCT ", inner.expressions[0]
    value = e.value(inner, source)
    separator = call.args.get("separator")
    between = e.value(separator, source).text if separator is not None else ""
    if value.type != VARCHAR or between is None:
        raise refusal(call, "LISTAGG takes a varchar and a literal")
    if call.args.get("on_overflow") is not None:
        raise refusal(call, "ON OVERFLOW is not supported")
    sql = f"string_agg({distinct}{value.sql}, {quoted(between)}{order}){condition}{over}"
    return Value(sql, VARCHAR)


@translates(exp.Filter)
def _filter(e: Expressions, node: exp.Filter, scope: Scope) -> Value:
    return aggregate(e, node, scope)


@translates(exp.Window)
def _window(e: Expressions, node: exp.Window, scope: Scope) -> Value:
    if scope.refuses_windows:
        raise refusal(node, scope.refuses_windows)
    call = node.this
    over = f" OVER ({_specification(e, node, scope)})"
    ignored = ""
    if isinstance(call, exp.IgnoreNulls | exp.RespectNulls):
        ignored = " IGNORE NULLS" if isinstance(call, exp.IgnoreNulls) else ""
        call = call.this
    inner = call.this if isinstance(call, exp.Filter) else call
    name = str(inner.this).lower() if isinstance(inner, exp.Anonymous) else "listagg"
    if name in functions.windows:

        def finish(sql: str) -> str:
            return f"{sql[:-1]}{ignored}){over}"

        forms = functions.windows[name]
        return e.matched(name, forms, node, inner.expressions, scope, finish)
    if name not in functions.aggregates:
        raise refusal(node, f"Function '{name}' not registered as a window function")
    return _aggregated(e, call, scope, over)


def _specification(e: Expressions, node: exp.Window, scope: Scope) -> str:
    """Returns partition, order and frame of a window."""
    name = node.args.get("alias")
    if name is not None:
        found = e.windows.get(name.name.lower())
        if found is None or node.args.get("partition_by") or node.args.get("order"):
            raise refusal(node, f"Cannot resolve WINDOW name {name.name}")
        node = found
    parts = []
    partition = node.args.get("partition_by") or []
    if partition:
        parts.append("PARTITION BY " + ", ".join(e.value(each, scope).sql for each in partition))
    order = node.args.get("order")
    if order is not None:
        parts.append(e.order(order.expressions, scope).strip())
    spec = node.args.get("spec")
    if spec is not None:
        parts.append(_frame(e, spec, node))
    return " ".join(parts)


def _frame(e: Expressions, spec: exp.WindowSpec, node: exp.Window) -> str:
    kind = (spec.args.get("kind") or "RANGE").upper()
    ends = []
    for end in ("start", "end"):
        bound, side = spec.args.get(end), spec.args.get(f"{end}_side") or ""
        if bound is None:
            ends.append("CURRENT ROW")
        elif isinstance(bound, str):
            ends.append(f"{bound} {side}".strip())
        elif isinstance(bound, exp.Literal) and not bound.is_string and kind != "RANGE":
            ends.append(f"{bound.this} {side}")
        else:
            raise refusal(node, "this window frame is not supported")
    return f"{kind} BETWEEN {ends[0]} AND {ends[1]}"


@calls("grouping")
def _grouping(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    if scope.grouping is None:
        raise refusal(node, "GROUPING needs GROUP BY")
    keys = [e.value(each, scope) for each in node.expressions]
    names = ", ".join(key.sql for key in keys)
    return Value(f"CAST(grouping({names}) AS INTEGER)", INTEGER)


_ORDERED = ("array_agg", "count", "sum", "avg", "min", "max", "approx_distinct")


def _with_clauses(sql: str, distinct: str, order: str, condition: str, over: str) -> str:
    """Puts the clauses of an aggregate into the innermost aggregate of its expression."""
    if not (distinct or order or condition or over):
        return sql
    start = 0
    wrapper = re.match(r"(?:CAST\(|lake_\w+\(|exp\()", sql)
    while wrapper:
        start += wrapper.end()
        wrapper = re.match(r"(?:CAST\(|lake_\w+\(|exp\()", sql[start:])
    opening = sql.index("(", start)
    depth, quote = 0, False
    for end in range(opening, len(sql)):
        if sql[end] == "'":
            quote = not quote
        if not quote:
            depth += {"(": 1, ")": -1}.get(sql[end], 0)
        if depth == 0:
            break
    inner = sql[opening + 1 : end].removeprefix("DISTINCT ")
    if sql[opening + 1 :].startswith("DISTINCT "):
        distinct = "DISTINCT "
    call = f"{sql[start:opening]}({distinct}{inner}{order}){condition}{over}"
    return sql[:start] + call + sql[end + 1 :]
