"""Function calls: those in the table, and those whose types or SQL need special treatment."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from sqlglot import exp

from opentrail.lake.dialect import functions
from opentrail.lake.dialect.aggregates import aggregate
from opentrail.lake.dialect.arithmetic import arithmetic
from opentrail.lake.dialect.casts import cast, coerced, tried
from opentrail.lake.dialect.conditions import check_pattern, choice
from opentrail.lake.dialect.expressions import CALLS, Expressions, calls, refusal, translates
from opentrail.lake.dialect.functions import ALIASES
from opentrail.lake.dialect.record_members import record_member
from opentrail.lake.dialect.scopes import Scope, Value
from opentrail.lake.dialect.text_functions import group, pattern, replacement
from opentrail.lake.dialect.types import (
    BIGINT,
    UNKNOWN,
    VARCHAR,
    Type,
    array,
    as_decimal,
    coerces,
    decimal,
    map_of,
    row,
)


@translates(exp.Anonymous)
def translate_call(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    name = str(node.this).lower()
    name = ALIASES.get(name, name)
    if name in functions.aggregates or name == "count":
        return aggregate(e, node, scope)
    if name in functions.windows:
        raise refusal(node, f"Window function {name} requires an OVER clause")
    special = CALLS.get(name)
    if special is not None:
        return special(e, node, scope)
    arguments: Sequence[exp.Expr | Value] = node.expressions
    if name.startswith("regexp_") and len(arguments) in (2, 3):
        arguments = _regular(e, name, node.expressions, node, scope)
    return e.matched(name, functions.scalars.get(name), node, arguments, scope)


def _regular(
    e: Expressions, name: str, arguments: Sequence[exp.Expr], node: exp.Expr, scope: Scope
) -> Sequence[exp.Expr | Value]:
    """Checks a regular expression, its group and its replacement."""
    text, expression, *more = arguments
    value, searched = e.value(expression, scope), e.value(text, scope)
    if value.type != VARCHAR or searched.type != VARCHAR:
        return arguments
    known = value.text
    flags = [
        known is None or re.search(part, known) is not None
        for part in (r"\\[bB]", r"\(\?\w*i", r"\$")
    ]
    if any(flags):
        sql = f"lake_searched({searched.sql}, {', '.join(map(str, flags))})"
        searched = replace(searched, sql=sql, text=None)
    rest: list[exp.Expr | Value] = list(more)
    if name in ("regexp_extract", "regexp_extract_all") and more:
        if not isinstance(more[0], exp.Literal) or not more[0].this.isdecimal():
            raise refusal(node, f"{name} takes a literal as its group")
        found = check_pattern(e, "group", group, value, node, int(more[0].this))
    else:
        takes_empty = name not in ("regexp_replace", "regexp_split")
        found = check_pattern(e, "pattern", pattern, value, node, takes_empty)
    if name == "regexp_replace" and more:
        put = None if isinstance(more[0], exp.Lambda) else e.value(more[0], scope)
        if put is None or put.type != VARCHAR:
            raise refusal(node, "regexp_replace takes a varchar as its replacement")
        rest = [Value(check_pattern(e, "replacement", replacement, put, node), VARCHAR)]
    return [searched, Value(found, VARCHAR), *rest]


@calls("try")
def _try(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    (argument,) = arguments_of(node, 1)
    if argument.find(exp.Query, exp.Window) or any(
        str(call.this).lower() in functions.aggregates for call in argument.find_all(exp.Anonymous)
    ):
        raise refusal(node, "TRY of a subquery or an aggregate is not supported")
    value = e.value(argument, scope)
    return Value(tried(value.sql), value.type)


def arguments_of(node: exp.Anonymous, *counts: int) -> Sequence[exp.Expr]:
    if len(node.expressions) not in counts:
        expected = " or ".join(map(str, counts))
        raise refusal(node, f"function {node.this} takes {expected} arguments")
    return node.expressions


@calls("coalesce")
def _coalesce(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    values = [e.value(each, scope) for each in node.expressions]
    if len(values) < 2:
        raise refusal(node, "The 'coalesce' function must have at least two arguments")
    kind = e.one_type(values, node, "All COALESCE operands must be the same type")
    shown = ", ".join(coerced(value.sql, value.type, kind) for value in values)
    return Value(f"coalesce({shown})", kind)


@calls("nullif")
def _nullif(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    first, second = (e.value(each, scope) for each in arguments_of(node, 2))
    same = e.compared(first, "=", second, node)
    return Value(f"CASE WHEN {same} THEN NULL ELSE {first.sql} END", first.type)


@calls("if")
def _if_call(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    condition, *branches = arguments_of(node, 2, 3)
    return choice(e, node, condition, branches, scope)


@calls("greatest", "least")
def _extremum(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    values = [e.value(each, scope) for each in node.expressions]
    kind = e.one_type(values, node, "All arguments must be the same type")
    if not values or not kind.is_orderable or kind.args:
        raise refusal(node, f"Unexpected parameters for function {node.this}: {kind}")
    shown = [coerced(value.sql, value.type, kind) for value in values]
    missing = " OR ".join(f"{each} IS NULL" for each in shown)
    name = str(node.this).lower()
    if name == "greatest" and kind.name in ("double", "real"):
        shown = [f"lake_no_nan({each})" for each in shown]
    return Value(f"CASE WHEN NOT ({missing}) THEN {name}({', '.join(shown)}) END", kind)


@calls("element_at")
def _element_at(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    container, key = arguments_of(node, 2)
    value, index = e.value(container, scope), e.value(key, scope)
    if value.type.name == "map":
        if value.path is not None and index.text is not None:
            return record_member(value, index.text, value.type.args[1])
        found = e.as_type(index, value.type.args[0], node)
        return Value(f"({value.sql})[{found}]", value.type.args[1])
    if value.type.name == "array" and index.type.is_integer:
        return Value(f"lake_element({value.sql}, {index.sql})", value.type.args[0])
    raise refusal(
        node, f"Unexpected parameters ({value.type}, {index.type}) for function element_at"
    )


@calls("map")
def _map(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    if not node.expressions:
        return Value("CAST(map([], []) AS MAP(INTEGER, INTEGER))", map_of(UNKNOWN, UNKNOWN))
    keys, values = (e.value(each, scope) for each in arguments_of(node, 2))
    if keys.type.name != "array" or values.type.name != "array":
        raise refusal(node, f"Unexpected parameters ({keys.type}, {values.type}) for function map")
    kind = map_of(keys.type.args[0], values.type.args[0])
    return Value(f"lake_map({keys.sql}, {values.sql})", kind)


@calls("map_entries")
def _map_entries(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    (argument,) = arguments_of(node, 1)
    value = e.value(argument, scope)
    if value.type.name != "map":
        raise refusal(node, f"Unexpected parameters ({value.type}) for function map_entries")
    pairs = f"list_transform(map_entries({value.sql}), lambda e_: {{'f0': e_.key, 'f1': e_.value}})"
    return Value(pairs, array(row(*((None, kind) for kind in value.type.args))))


@calls("map_filter", "transform_keys", "transform_values")
def _over_map(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    """`map_filter`, `transform_keys`, `transform_values`."""
    name = str(node.this).lower()
    container, function = arguments_of(node, 2)
    value = e.value(container, scope)
    if value.type.name != "map" or not isinstance(function, exp.Lambda):
        raise refusal(node, f"function {name} takes a map and a function")
    key, kept = value.type.args
    result, text = e.lambda_of(function, Type("function", (key, kept, Type("U"))), {}, scope)
    names, _, body = text.removeprefix("lambda ").partition(": ")
    first, second = names.split(", ")
    entry = f"e{first}"
    body = re.sub(rf"\b{first}\b", f"{entry}.key", body)
    body = re.sub(rf"\b{second}\b", f"{entry}.value", body)
    entries = f"map_entries({value.sql})"
    if name == "map_filter":
        sql = f"map_from_entries(list_filter({entries}, lambda {entry}: {body}))"
        return Value(sql, value.type)
    changed = (f"{entry}.key", body) if name == "transform_values" else (body, f"{entry}.value")
    made = f"list_transform({entries}, lambda {entry}: {{'f0': {changed[0]}, 'f1': {changed[1]}}})"
    kind = map_of(key, result) if name == "transform_values" else map_of(result, kept)
    return Value(f"lake_map_of({made})", kind)


@calls("reduce")
def _reduce(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    items, start, step, end = arguments_of(node, 4)
    value, state = e.value(items, scope), e.value(start, scope)
    if not isinstance(step, exp.Lambda) or not isinstance(end, exp.Lambda):
        raise refusal(node, "function reduce takes two functions")
    if value.type.name != "array":
        raise refusal(node, f"function reduce takes an array, not {value.type}")
    kind = state.type
    combined, text = e.lambda_of(
        step, Type("function", (kind, value.type.args[0], Type("U"))), {}, scope
    )
    if not coerces(combined, kind):
        raise refusal(node, f"the function of reduce returns {combined}, its state is {kind}")
    parameters, _, body = text.removeprefix("lambda ").partition(": ")
    first, second = parameters.split(", ")
    # DuckDB's list elements have one type, so each is a pair with one unused side.
    pair, item = f"s{first}", f"x{first}"
    body = re.sub(rf"\b{first}\b", f"{pair}.s", coerced(body, combined, kind))
    body = re.sub(rf"\b{second}\b", f"{item}.x", body)
    seed = f"{{'s': {state.sql}, 'x': CAST(NULL AS {value.type.args[0].engine})}}"
    rest = (
        f"list_transform({value.sql}, lambda {second}: "
        f"{{'s': CAST(NULL AS {kind.engine}), 'x': {second}}})"
    )
    folded = (
        f"list_reduce(list_concat([{seed}], {rest}), lambda {pair}, {item}: "
        f"{{'s': {body}, 'x': CAST(NULL AS {value.type.args[0].engine})}})"
    )
    result, text = e.lambda_of(end, Type("function", (kind, Type("U"))), {}, scope)
    sql = f"CASE WHEN {value.sql} IS NOT NULL THEN list_transform([{folded}.s], {text})[1] END"
    return Value(sql, result)


@translates(exp.StrPosition)
def _position(e: Expressions, node: exp.StrPosition, scope: Scope) -> Value:
    call = exp.Anonymous(this="position", expressions=[node.args["substr"], node.this])
    return translate_call(e, call, scope)


@translates(exp.Trim)
def _trim(e: Expressions, node: exp.Trim, scope: Scope) -> Value:
    value = e.value(node.this, scope)
    characters = node.expression and e.value(node.expression, scope)
    if value.type != VARCHAR or (characters and characters.type != VARCHAR):
        raise refusal(node, f"Unexpected parameters ({value.type}) for function trim")
    place_of = (node.args.get("position") or "BOTH").upper()
    name = {"LEADING": "ltrim", "TRAILING": "rtrim", "BOTH": "trim"}[place_of]
    return Value(
        f"{name}({value.sql}, {characters.sql if characters else 'lake_blank()'})", VARCHAR
    )


@translates(exp.Substring)
def _substring(e: Expressions, node: exp.Substring, scope: Scope) -> Value:
    parts = [node.this, node.args.get("start"), node.args.get("length")]
    call = exp.Anonymous(this="substr", expressions=[each for each in parts if each])
    return translate_call(e, call, scope)


@calls("round", "truncate", "ceil", "floor")
def _rounded(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    """`round`, `truncate`, `ceil` and `floor` of integers and decimals."""
    name = ALIASES.get(str(node.this).lower(), str(node.this).lower())
    value = e.value(node.expressions[0], scope) if node.expressions else None
    if value is None or not (value.type.is_integer or value.type.name == "decimal"):
        return e.matched(name, functions.scalars.get(name), node, node.expressions, scope)
    digits = node.expressions[1] if len(node.expressions) > 1 else None
    if value.type.is_integer and digits is None and name != "truncate":
        return value
    kind = as_decimal(value.type)
    is_kept = value.type.is_integer and name != "truncate"
    number = "0" if digits is None else e.as_type(e.value(digits, scope), BIGINT, node)
    whole = kind.precision - kind.scale
    if digits is not None and name in ("round", "truncate"):
        result = decimal(kind.precision + (name == "round"), kind.scale)
    else:
        result = decimal(whole + (kind.scale > 0 and name != "truncate") or 1, 0)
    if is_kept:
        result = value.type
    text = f"CAST({value.sql} AS VARCHAR)"
    return Value(f"CAST(lake_rounded({text}, {number}, '{name}') AS {result.engine})", result)


@calls("mod")
def _mod(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    first, second = arguments_of(node, 2)
    return arithmetic(e, exp.Mod(this=first, expression=second), scope)


@calls("abs", "sign")
def _number(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    """`abs` and `sign`, which keep the type."""
    (argument,) = arguments_of(node, 1)
    value = e.value(argument, scope)
    if not value.type.is_number:
        raise refusal(node, f"Unexpected parameters ({value.type}) for function {node.this}")
    name, kind = str(node.this).lower(), value.type
    if name == "sign" and kind.name == "decimal":
        kind = decimal(1, 0)
    sql = f"CAST({name}({value.sql}) AS {kind.engine})"
    if name == "sign" and kind.name in ("double", "real"):
        sql = f"CASE WHEN isnan({value.sql}) THEN {value.sql} ELSE {sql} END"
    return Value(sql, kind)


#: Types whose text `%s` shows as a cast does, or as Java shows a double.
_FORMATTED = (
    *("tinyint", "smallint", "integer", "bigint", "decimal", "double"),
    *("varchar", "date", "boolean", "unknown"),
)


@calls("format")
def _format(e: Expressions, node: exp.Anonymous, scope: Scope) -> Value:
    pattern, *arguments = [e.value(each, scope) for each in node.expressions]
    if pattern.type != VARCHAR or not arguments:
        raise refusal(node, "Unexpected parameters for function format")
    kinds, texts = [], []
    for value in arguments:
        text = cast(value.sql, value.type, VARCHAR)
        if value.type.name == "double":
            text = f"lake_java_double({value.sql})"
        if text is None or value.type.name not in _FORMATTED:
            raise refusal(node, f"format does not take {value.type}")
        kinds.append("i" if value.type.is_integer else value.type.name[0])
        texts.append(text)
    return Value(f"lake_format({pattern.sql}, '{''.join(kinds)}', [{', '.join(texts)}])", VARCHAR)
