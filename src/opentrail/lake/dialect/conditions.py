"""Comparisons, logic, patterns, and choices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sqlglot import exp

from opentrail.lake.dialect.casts import coerced
from opentrail.lake.dialect.expressions import Expressions, quoted, refusal, translates
from opentrail.lake.dialect.scopes import Scope, Value
from opentrail.lake.dialect.text_functions import like_pattern
from opentrail.lake.dialect.types import BOOLEAN, UNKNOWN, VARCHAR, common

_COMPARISONS: dict[type[exp.Expr], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}


@translates(*_COMPARISONS)
def _comparison(e: Expressions, node: exp.Binary, scope: Scope) -> Value:
    right = node.expression
    if isinstance(right, exp.Any | exp.All) or (
        isinstance(right, exp.Anonymous)
        and str(right.this).lower() in ("any", "some", "all")
        and len(right.expressions) == 1
        and isinstance(right.expressions[0], exp.Query | exp.Values)
    ):
        return _quantified(e, node, scope)
    left, right = e.value(node.left, scope), e.value(node.right, scope)
    return Value(e.compared(left, _COMPARISONS[type(node)], right, node), BOOLEAN)


def _quantified(e: Expressions, node: exp.Binary, scope: Scope) -> Value:
    left, quantifier = e.value(node.left, scope), node.expression
    is_call = isinstance(quantifier, exp.Anonymous)
    sql, columns = e.subquery(quantifier.expressions[0] if is_call else quantifier.this, scope)
    if len(columns) != 1:
        raise refusal(node, "a subquery of one column was expected")
    kind = common(left.type, columns[0].value.type)
    if kind is None or kind.args or kind.name in ("double", "real"):
        raise refusal(node, f"Cannot compare {left.type} with {columns[0].value.type}")
    a = coerced(left.sql, left.type, kind)
    b = coerced(columns[0].value.sql, columns[0].value.type, kind)
    is_all = isinstance(quantifier, exp.All) or str(quantifier.this).lower() == "all"
    word = "ALL" if is_all else "ANY"
    sql = f"({a} {_COMPARISONS[type(node)]} {word} (SELECT {b} FROM ({sql})))"
    return Value(sql, BOOLEAN)


#: Nodes and calls whose value is the same in every row, if they contain no others.
_CONSTANT = (
    *(exp.Literal, exp.Cast, exp.TryCast, exp.DataType, exp.DataTypeParam, exp.Interval, exp.Var),
    *(exp.Add, exp.Sub, exp.Neg, exp.Paren, exp.CurrentTimestamp, exp.CurrentDate),
)
_CONSTANT_CALLS = ("now", "date_add", "date_trunc", "from_iso8601_timestamp", "date", "timestamp")
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "=": "="}


def stored_conditions(e: Expressions, node: exp.Expr, scope: Scope) -> list[str]:
    """Returns conditions on stored columns that each row of a WHERE condition meets.

    With these, DuckDB skips rows, and parts of files, before it reads their records.
    """
    found, stack = [], [node]
    while stack:
        each = stack.pop()
        if isinstance(each, exp.Paren):
            stack.append(each.this)
        elif isinstance(each, exp.And):
            stack += [each.right, each.left]
        elif isinstance(each, exp.Between):
            found.append(_on_stored(e, each.this, ">=", [each.args["low"]], scope))
            found.append(_on_stored(e, each.this, "<=", [each.args["high"]], scope))
        elif isinstance(each, exp.In):
            found.append(_on_stored(e, each.this, "=", each.expressions, scope))
        elif isinstance(each, exp.Binary) and _COMPARISONS.get(type(each)) in _FLIPPED:
            operator = _COMPARISONS[type(each)]
            found.append(_on_stored(e, each.left, operator, [each.right], scope))
            found.append(_on_stored(e, each.right, _FLIPPED[operator], [each.left], scope))
    return [condition for condition in found if condition]


def _on_stored(
    e: Expressions, node: exp.Expr, operator: str, others: Sequence[exp.Expr], scope: Scope
) -> str | None:
    if not isinstance(node, exp.Column) or not others or not all(map(_is_constant, others)):
        return None
    value, constants = e.value(node, scope), [e.value(each, scope) for each in others]
    if value.stored is None:
        return None
    if value.type == VARCHAR and operator == "=" and all(each.text for each in constants):
        return f"{value.stored} IN ({', '.join(each.sql for each in constants)})"
    constant = e.with_time(constants[0], value, node)
    kind = common(value.type, constant.type)
    if len(constants) > 1 or kind is None or kind.name not in ("timestamp", "timestamptz"):
        return None
    seconds = f"epoch_us({coerced(constant.sql, constant.type, kind)}) // 1000000"
    return f"{value.stored} {operator.rstrip('=')}= {seconds}"


def _is_constant(node: exp.Expr) -> bool:
    return all(
        isinstance(each, _CONSTANT)
        or (isinstance(each, exp.Anonymous) and str(each.this).lower() in _CONSTANT_CALLS)
        for each in node.walk()
    )


@translates(exp.NullSafeEQ, exp.NullSafeNEQ)
def _distinct_from(e: Expressions, node: exp.Binary, scope: Scope) -> Value:
    left, right = e.value(node.left, scope), e.value(node.right, scope)
    left, right = e.with_time(left, right, node), e.with_time(right, left, node)
    kind = common(left.type, right.type)
    if kind is None:
        raise refusal(node, f"Cannot apply operator: {left.type} IS DISTINCT FROM {right.type}")
    word = "IS NOT DISTINCT FROM" if isinstance(node, exp.NullSafeEQ) else "IS DISTINCT FROM"
    a, b = coerced(left.sql, left.type, kind), coerced(right.sql, right.type, kind)
    return Value(f"({a} {word} {b})", BOOLEAN)


@translates(exp.Between)
def _between(e: Expressions, node: exp.Between, scope: Scope) -> Value:
    value = e.value(node.this, scope)
    low, high = (e.value(node.args[part], scope) for part in ("low", "high"))
    parts = (
        e.compared(value, ">=", low, node),
        e.compared(value, "<=", high, node),
    )
    return Value(f"({' AND '.join(parts)})", BOOLEAN)


@translates(exp.In)
def _in(e: Expressions, node: exp.In, scope: Scope) -> Value:
    value = e.value(node.this, scope)
    query = node.args.get("query")
    if query is not None:
        sql, columns = e.subquery(query, scope)
        if len(columns) != 1:
            raise refusal(node, "a subquery of one column was expected")
        inner = columns[0].value
        kind = common(value.type, inner.type)
        if kind is None or kind.args:
            raise refusal(node, f"value and result of subquery: {value.type} vs {inner.type}")
        a, b = coerced(value.sql, value.type, kind), coerced(inner.sql, inner.type, kind)
        return Value(f"({a} IN (SELECT {b} FROM ({sql})))", BOOLEAN)
    if not node.expressions:
        raise refusal(node, "IN needs a list or a subquery")
    others = [e.value(each, scope) for each in node.expressions]
    compared = (e.compared(value, "=", other, node) for other in others)
    plain = value.type.name in ("varchar", "boolean") or value.type.is_integer
    if plain and all(other.type == value.type for other in others):
        return Value(f"({value.sql} IN ({', '.join(each.sql for each in others)}))", BOOLEAN)
    return Value(f"({' OR '.join(compared)})", BOOLEAN)


@translates(exp.Exists)
def _exists(e: Expressions, node: exp.Exists, scope: Scope) -> Value:
    sql, _ = e.subquery(node.this, scope)
    return Value(f"EXISTS ({sql})", BOOLEAN)


@translates(exp.Subquery, exp.Select)
def _scalar(e: Expressions, node: exp.Expr, scope: Scope) -> Value:
    sql, columns = e.subquery(node, scope)
    if len(columns) != 1:
        raise refusal(
            node, f"Multiple columns returned by subquery are not supported: {len(columns)}"
        )
    return Value(f"({sql})", columns[0].value.type)


@translates(exp.And, exp.Or)
def _logical(e: Expressions, node: exp.Binary, scope: Scope) -> Value:
    word = "AND" if isinstance(node, exp.And) else "OR"
    operands, stack = [], [node]
    while stack:  # a long chain is deep to the left
        each = stack.pop()
        for side in (each.right, each.left):
            if type(side) is type(node):
                stack.append(side)
            else:
                operands.append(side)
    operands.reverse()
    what = "Logical expression term"
    terms = (e.condition(each, scope, what) for each in operands)
    return Value(f"({f' {word} '.join(terms)})", BOOLEAN)


@translates(exp.Not)
def _not(e: Expressions, node: exp.Not, scope: Scope) -> Value:
    return Value(f"(NOT {e.condition(node.this, scope, 'Value of NOT')})", BOOLEAN)


@translates(exp.Is)
def _is(e: Expressions, node: exp.Is, scope: Scope) -> Value:
    if not isinstance(node.expression, exp.Null):
        raise refusal(node, "mismatched input after IS. Expecting: 'DISTINCT', 'NOT', 'NULL'")
    value = e.value(node.this, scope)
    return Value(f"({value.sql} IS NULL)", BOOLEAN)


@translates(exp.Like)
def _like(e: Expressions, node: exp.Like, scope: Scope, escape: str | None = None) -> Value:
    value, pattern = e.value(node.this, scope), e.value(node.expression, scope)
    for each, what in ((value, "Left side of LIKE expression"), (pattern, "Pattern for LIKE")):
        if each.type not in (VARCHAR, UNKNOWN):
            raise refusal(node, f"{what} must evaluate to a varchar (actual: {each.type})")
    word = "NOT LIKE" if node.args.get("negate") else "LIKE"
    if escape is None:
        return Value(f"({value.sql} {word} {pattern.sql})", BOOLEAN)
    checked = check_pattern(e, "like_pattern", like_pattern, pattern, node, escape)
    return Value(f"({value.sql} {word} {checked} ESCAPE {quoted(escape)})", BOOLEAN)


def check_pattern(
    e: Expressions,
    name: str,
    check: Callable[..., str],
    value: Value,
    node: exp.Expr,
    *more: str | int,
) -> str:
    """Checks a pattern: a literal now, other values while the query runs."""
    if value.text is None:
        others = "".join(f", {quoted(each) if isinstance(each, str) else each}" for each in more)
        return f"lake_{name}({value.sql}{others})"
    try:
        return quoted(check(value.text, *more))
    except ValueError as error:
        raise refusal(node, str(error)) from None


@translates(exp.Escape)
def _escape(e: Expressions, node: exp.Escape, scope: Scope) -> Value:
    escape = node.expression
    if not isinstance(escape, exp.Literal) or len(escape.this) != 1:
        raise refusal(node, "Escape string must be a single character")
    if not isinstance(node.this, exp.Like):
        raise refusal(node, "ESCAPE belongs to LIKE")
    return _like(e, node.this, scope, escape.this)


@translates(exp.Case)
def _case(e: Expressions, node: exp.Case, scope: Scope) -> Value:
    operand = e.value(node.this, scope) if node.this is not None else None
    conditions, values = [], []
    for branch in node.args["ifs"]:
        if operand is None:
            conditions.append(e.condition(branch.this, scope, "CASE WHEN clause"))
        else:
            other = e.value(branch.this, scope)
            conditions.append(e.compared(operand, "=", other, node))
        values.append(e.value(branch.args["true"], scope))
    default = node.args.get("default")
    if default is not None:
        values.append(e.value(default, scope))
    kind = e.one_type(values, node, "All CASE results must be the same type")
    shown = [coerced(value.sql, value.type, kind) for value in values]
    pairs = " ".join(f"WHEN {c} THEN {v}" for c, v in zip(conditions, shown, strict=False))
    return Value(f"CASE {pairs}{f' ELSE {shown[-1]}' if default is not None else ''} END", kind)


@translates(exp.If)
def _if(e: Expressions, node: exp.If, scope: Scope) -> Value:
    branches = [node.args["true"], node.args.get("false")]
    return choice(e, node, node.this, [each for each in branches if each], scope)


def choice(
    e: Expressions,
    node: exp.Expr,
    condition: exp.Expr,
    branches: Sequence[exp.Expr],
    scope: Scope,
) -> Value:
    test = e.condition(condition, scope, "IF condition")
    values = [e.value(each, scope) for each in branches]
    kind = e.one_type(values, node, "Result types for IF must be the same")
    shown = [coerced(value.sql, value.type, kind) for value in values] + ["NULL"]
    return Value(f"CASE WHEN {test} THEN {shown[0]} ELSE {shown[1]} END", kind)
