"""Names: columns, fields of rows, subscripts."""

from __future__ import annotations

from collections.abc import Sequence

from sqlglot import exp

from opentrail.lake.dialect.casts import text_of
from opentrail.lake.dialect.expressions import Expressions, refusal, translates
from opentrail.lake.dialect.record_members import record_member
from opentrail.lake.dialect.scopes import CATALOGS, Field, Scope, Value
from opentrail.lake.dialect.types import DATE


@translates(exp.Column)
def _column(e: Expressions, node: exp.Column, scope: Scope) -> Value:
    parts = [node.args.get(part) for part in ("catalog", "db", "table", "this")]
    names = [part for part in parts if isinstance(part, exp.Identifier)]
    return _name(e, names, node, scope)


@translates(exp.Identifier)
def _identifier(e: Expressions, node: exp.Identifier, scope: Scope) -> Value:
    return _name(e, [node], node, scope)


def _name(
    e: Expressions, names: Sequence[exp.Identifier], node: exp.Expr, scope: Scope | None
) -> Value:
    shown = ".".join(name.this for name in names)
    if names[0].this.lower() in ("current_date",) and len(names) == 1:
        return Value("current_date", DATE)
    while scope is not None:
        source = scope.grouping.source if scope.grouping else scope
        found, rest = _found(source, names)
        if len(found) > 1 and any(each.value != found[0].value for each in found):
            raise refusal(node, f"Column '{shown}' is ambiguous")
        if found:
            return _of_field(e, found[0].value, rest, node, scope, shown)
        scope = scope.parent
    raise refusal(node, f"Column '{shown}' cannot be resolved")


def _found(
    source: Scope, names: Sequence[exp.Identifier]
) -> tuple[list[Field], Sequence[exp.Identifier]]:
    """Returns the fields of a name, and the names of members after it.

    A statement may write a column with its table, database and catalog.
    """
    for start in range(len(names) - 1):
        if found := source.named(names[start + 1].this, names[start].this):
            return found, names[start + 2 :]
        if names[start].this.lower() not in CATALOGS:
            break
    return source.named(names[0].this), names[1:]


def _of_field(
    e: Expressions,
    value: Value,
    rest: Sequence[exp.Identifier],
    node: exp.Expr,
    scope: Scope,
    shown: str,
) -> Value:
    keys = scope.grouping.keys if scope.grouping else None
    key = keys.get(value.sql) if keys is not None else None
    for name in rest:
        value = _member(e, value, name.this, node)
        if keys is not None:
            key = _member(e, key, name.this, node) if key else keys.get(value.sql)
    if keys is None:
        return value
    if key is None:
        message = f"'{shown}' must be an aggregate expression or appear in GROUP BY clause"
        raise refusal(node, message)
    return key


@translates(exp.Dot)
def _dot(e: Expressions, node: exp.Dot, scope: Scope) -> Value:
    value = e.value(node.this, scope)
    if not isinstance(node.expression, exp.Identifier):
        raise refusal(node, "only a field's name may follow a dot")
    return _member(e, value, node.expression.this, node)


def _member(e: Expressions, value: Value, name: str, node: exp.Expr) -> Value:
    if value.type.name != "row":
        raise refusal(node, f"Expression is not of type ROW: {value.type}, field {name!r}")
    index = value.type.field(name)
    if index is None:
        raise refusal(node, f"Column reference {name!r} is invalid")
    kind = value.type.args[index]
    if value.path is not None:
        return record_member(value, value.type.fields[index] or "", kind)
    return Value(f"struct_extract({value.sql}, 'f{index}')", kind)


@translates(exp.Bracket)
def _bracket(e: Expressions, node: exp.Bracket, scope: Scope) -> Value:
    value = e.value(node.this, scope)
    if len(node.expressions) != 1:
        raise refusal(node, "one subscript was expected")
    index = e.value(node.expressions[0], scope)
    if value.type.name == "array" and index.type.is_integer:
        return Value(f"lake_item({value.sql}, {index.sql})", value.type.args[0])
    if value.type.name == "map":
        key = e.as_type(index, value.type.args[0], node)
        shown = text_of(key, value.type.args[0]) or "'key'"
        return Value(f"lake_entry({value.sql}, {key}, {shown})", value.type.args[1])
    if value.type.name == "row" and isinstance(node.expressions[0], exp.Literal):
        number = int(node.expressions[0].this)
        if 1 <= number <= len(value.type.args):
            found = f"struct_extract({value.sql}, 'f{number - 1}')"
            return Value(found, value.type.args[number - 1])
    raise refusal(node, f"Cannot use {index.type} for subscript of {value.type}")
