"""Translates statements: one SELECT in Trino's dialect becomes one SELECT of DuckDB's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from sqlglot import exp

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect import (
    aggregates,
    arithmetic,
    calls,
    conditions,
    functions,
    literals,
    names,
    time_calls,
)
from opentrail.lake.dialect.casts import coerced
from opentrail.lake.dialect.expressions import Expressions, place, refusal
from opentrail.lake.dialect.parsing import parse
from opentrail.lake.dialect.python_functions import unsupported
from opentrail.lake.dialect.relations import Ctes, Relations
from opentrail.lake.dialect.scopes import (
    Catalog,
    Field,
    Grouping,
    Scope,
    Value,
)
from opentrail.lake.dialect.types import Type, common

#: Modules whose import registers translations.
EXPRESSION_MODULES = (aggregates, arithmetic, calls, conditions, literals, names, time_calls)
_MAX_DEPTH = 120
#: Maximum steps of a recursive query, as in Trino.
_MAX_RECURSION: Final = 10


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a result: its name, and Trino's type."""

    name: str
    type: Type


@dataclass(frozen=True, slots=True)
class Translated:
    """A statement for DuckDB, and what its columns are."""

    sql: str
    columns: Sequence[Column]


def translate(statement: str, catalog: Catalog) -> Translated:
    """Translates a statement.

    Raises:
        StatementRefused: it is not a single SELECT, is invalid, or uses an unsupported feature.
    """
    unsupported.clear()
    try:
        return Statements(catalog).translate(parse(statement))
    except RecursionError:
        raise StatementRefused("the statement is nested too deeply") from None


class Statements:
    """Translates one statement: its columns have names that are unique in it."""

    def __init__(self, catalog: Catalog) -> None:
        self._expressions = Expressions(self._subquery)
        self._relations = Relations(catalog, self._expressions, self.query)
        self._depth = 0

    def translate(self, tree: exp.Expr) -> Translated:
        sql, fields = self.query(tree, None, {})
        columns = [
            Column(each.name if each.name is not None else f"_col{n}", each.value.type)
            for n, each in enumerate(fields)
        ]
        shown = ", ".join(each.value.sql for each in fields)
        for record in self._relations.records:
            sql, shown = record.complete(sql), record.complete(shown)
        # DuckDB keeps the order of a subquery that is only projected.
        return Translated(f"SELECT {shown} FROM ({sql})", columns)

    def _subquery(self, node: exp.Expr, scope: Scope) -> tuple[str, list[Field]]:
        if scope.refuses_aggregates.startswith("Lambda"):
            raise refusal(node, scope.refuses_aggregates)
        inner: exp.Expr = node
        while isinstance(inner, exp.Subquery) and not inner.args.get("with_"):
            if not isinstance(inner.this, exp.Query | exp.Values) or inner.args.get("limit"):
                break
            inner = inner.this
        return self.query(inner, scope, self._ctes)

    def query(self, node: exp.Expr, outer: Scope | None, ctes: Ctes) -> tuple[str, list[Field]]:
        """Translates a query; gives its text and its columns, by the names that they have in it."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise refusal(node, "the statement is nested too deeply")
        before = getattr(self, "_ctes", {})
        try:
            prefix, ctes = self._with(node, outer, dict(ctes))
            self._ctes = ctes
            sql, fields = self._body(node, outer, ctes)
            return prefix + sql, fields
        finally:
            self._ctes = before
            self._depth -= 1

    def _body(self, node: exp.Expr, outer: Scope | None, ctes: Ctes) -> tuple[str, list[Field]]:
        if isinstance(node, exp.Select):
            return self._select(node, outer, ctes)
        if isinstance(node, exp.SetOperation):
            return self._set_operation(node, outer, ctes)
        if isinstance(node, exp.Values):
            return self._values(node, outer)
        if isinstance(node, exp.Subquery):
            sql, fields = self.query(node.this, outer, ctes)
            return f"SELECT * FROM ({sql}){self._tail(node, fields)}", fields
        raise refusal(node, f"{type(node).__name__.upper()} is not supported")

    def _with(self, node: exp.Expr, outer: Scope | None, ctes: Ctes) -> tuple[str, Ctes]:
        clause = node.args.get("with_")
        if clause is None:
            return "", ctes
        parts = []
        for each in clause.expressions:
            name, table = each.alias, next(self._relations.tables)
            names = [column.name for column in each.args["alias"].args.get("columns") or []]
            if clause.args.get("recursive") and isinstance(each.this, exp.Union):
                steps = next(self._relations.tables)
                sql, fields = self._recursive(each, steps, names, outer, ctes)
                parts.append(f"{steps} AS ({sql})")
                word = "SELECT DISTINCT" if each.this.args.get("distinct") else "SELECT"
                sql = f"{word} {', '.join(field.value.sql for field in fields)} FROM {steps}"
            else:
                sql, fields = self.query(each.this, outer, ctes)
                fields = self._relations.renamed(each, fields, names)
            parts.append(f"{table} AS ({sql})")
            ctes[name.lower()] = [replace(field, qualifier=table) for field in fields]
        word = "WITH RECURSIVE" if clause.args.get("recursive") else "WITH"
        return f"{word} {', '.join(parts)} ", ctes

    def _recursive(
        self,
        node: exp.Expr,
        steps: str,
        names: Sequence[str],
        outer: Scope | None,
        ctes: Ctes,
    ) -> tuple[str, list[Field]]:
        """Translates a recursive query, whose rows get the number of the step that makes them."""
        union = node.this
        first, fields = self.query(union.left, outer, ctes)
        fields = self._relations.renamed(node, fields, names)
        inside = {**ctes, node.alias.lower(): [replace(each, qualifier=steps) for each in fields]}
        second, others = self.query(union.right, outer, inside)
        shown = [
            f"{self._coerced(other, mine.value.type, node)} AS {mine.value.sql}"
            for mine, other in zip(fields, others, strict=True)
        ]
        step = next(self._expressions.names)
        last = f"(SELECT max({step}) FROM {steps})"
        message = f"Recursion depth limit exceeded ({_MAX_RECURSION})"
        number = f"CASE WHEN {last} >= {_MAX_RECURSION} THEN error('{message}') ELSE {last} + 1 END"
        sql = f"SELECT *, 0 AS {step} FROM ({first})"
        return f"{sql} UNION ALL (SELECT {', '.join(shown)}, {number} FROM ({second}))", fields

    def _coerced(self, field: Field, kind: Type, node: exp.Expr) -> str:
        if common(field.value.type, kind) != kind:
            raise refusal(
                node, f"column in UNION query has incompatible types: {kind}, {field.value.type}"
            )
        return coerced(field.value.sql, field.value.type, kind)

    # SELECT

    def _select(self, node: exp.Select, outer: Scope | None, ctes: Ctes) -> tuple[str, list[Field]]:
        if not node.expressions:
            raise refusal(node, "SELECT needs expressions")
        source, fields = self._from(node, outer, ctes)
        group, having = node.args.get("group"), node.args.get("having")
        where, limits = (
            "WHERE clause",
            "cannot contain aggregations, window functions or grouping operations",
        )
        row_scope = Scope(fields, outer, None, f"{where} {limits}", f"{where} {limits}")
        condition = node.args.get("where")
        if condition is not None:
            test = self._expressions.condition(condition.this, row_scope, where)
            before = conditions.stored_conditions(self._expressions, condition.this, row_scope)
            source += f" WHERE {' AND '.join([*before, test])}"
        ordered = node.args.get("order")
        looked_at = [*node.expressions, *(ordered.expressions if ordered else [])]
        is_grouped = group is not None or having is not None or any(map(_aggregates, looked_at))
        scope = Scope(fields, outer, None, "", "")
        tail = ""
        if is_grouped:
            scope, source, tail = self._grouped(node, source, fields, outer)
            if having is not None:
                inner = replace(scope, refuses_windows=f"HAVING clause {limits}")
                test = self._expressions.condition(having.this, inner, "HAVING clause")
                tail += f" HAVING {test}"
        windows = self._expressions.windows
        self._expressions.windows = {
            each.name.lower(): each for each in node.args.get("windows") or []
        }
        items = self._items(node, scope, fields)
        self._expressions.windows = windows
        named = [self._relations.new(value, name) for value, name in items]
        outputs = [field for _, field in named]
        distinct = node.args.get("distinct")
        if distinct is not None and distinct.args.get("on"):
            raise refusal(node, "DISTINCT ON is not supported")
        shown = ", ".join(sql for sql, _ in named)
        sql = f"SELECT {'DISTINCT ' if distinct else ''}{shown}"
        sql += f" FROM {source}{tail}" if source else tail
        if ordered is not None:
            order = self._order(ordered, items, outputs, scope, distinct is not None)
            sql += f" ORDER BY {order}"
        return sql + self._limit(node), outputs

    def _from(self, node: exp.Select, outer: Scope | None, ctes: Ctes) -> tuple[str, list[Field]]:
        clause = node.args.get("from_")
        if clause is None:
            return "(SELECT 1)", []
        joins = [*(clause.this.args.get("joins") or []), *(node.args.get("joins") or [])]
        return self._relations.joined(clause.this, joins, outer, ctes)

    def _grouped(
        self, node: exp.Select, source: str, fields: list[Field], outer: Scope | None
    ) -> tuple[Scope, str, str]:
        """Returns the scope of expressions over groups, the source with keys, and GROUP BY."""
        why = "GROUP BY clause cannot contain aggregations, window functions or grouping operations"
        row_scope = Scope(fields, outer, None, why, why)
        grouping = Grouping(Scope(fields, outer, None, why, why))
        group, keys = node.args.get("group"), list[str]()

        def key_of(each: exp.Expr) -> str:
            if isinstance(each, exp.Literal) and not each.is_string:
                index = int(each.this)
                if not 1 <= index <= len(node.expressions):
                    raise refusal(each, f"GROUP BY position {index} is not in select list")
                each = _unaliased(node.expressions[index - 1])
            value = self._expressions.value(each, row_scope)
            if not _is_comparable(value.type):
                raise refusal(
                    each,
                    f"{value.type} is not comparable, and therefore cannot be used in GROUP BY",
                )
            known = grouping.keys.get(value.sql)
            if known is None:
                shown, field = self._relations.new(value, None)
                keys.append(shown)
                known = grouping.keys[value.sql] = field.value
            return known.sql

        def set_of(each: exp.Expr) -> str:
            inside = each.expressions if isinstance(each, exp.Tuple) else [each]
            if isinstance(each, exp.Paren):
                inside = [each.this]
            return f"({', '.join(map(key_of, inside))})"

        terms = []
        for each in group.expressions if group is not None else []:
            word = _GROUPINGS.get(type(each))
            if word is None:
                terms.append(
                    key_of(each) if not isinstance(each, exp.Tuple) else set_of(each)[1:-1]
                )
            else:
                terms.append(f"{word} ({', '.join(map(set_of, each.expressions))})")
        terms = [term for term in terms if term]  # GROUP BY ()
        tail = f" GROUP BY {', '.join(terms)}" if terms else ""
        inner = f"(SELECT *{''.join(', ' + key for key in keys)} FROM {source})"
        return Scope(fields, outer, grouping), f"{inner} AS {next(self._relations.tables)}", tail

    def _items(
        self, node: exp.Select, scope: Scope, fields: list[Field]
    ) -> list[tuple[Value, str | None]]:
        items: list[tuple[Value, str | None]] = []
        for each in node.expressions:
            star = each.this if isinstance(each, exp.Column) else each
            if isinstance(star, exp.Star):
                if star.args.get("except_") or star.args.get("replace") or star.args.get("rename"):
                    raise refusal(each, "EXCEPT, REPLACE and RENAME are not supported")
                qualifier = each.table if isinstance(each, exp.Column) else ""
                if not node.args.get("from_"):
                    raise refusal(each, "SELECT * not allowed in queries without FROM clause")
                found = [
                    field
                    for field in fields
                    if not qualifier or (field.qualifier or "").lower() == qualifier.lower()
                ]
                if not found:
                    raise refusal(each, f"Unable to resolve reference {qualifier}")
                for field in found:
                    value = field.value
                    if scope.grouping is not None:
                        key = scope.grouping.keys.get(value.sql)
                        if key is None:
                            reason = "must be an aggregate expression or appear in GROUP BY clause"
                            raise refusal(each, f"'{field.name}' {reason}")
                        value = key
                    items.append((value, field.name))
                continue
            value = self._expressions.value(_unaliased(each), scope)
            items.append((value, _name_of(each)))
        return items

    def _order(
        self,
        clause: exp.Order,
        items: Sequence[tuple[Value, str | None]],
        outputs: Sequence[Field],
        scope: Scope,
        is_distinct: bool,
    ) -> str:
        """Translates ORDER BY: names of the result come before columns of the source."""
        columns = {
            value.sql: field.value.sql for (value, _), field in zip(items, outputs, strict=True)
        }
        named = [Field(name, value) for value, name in items if name is not None]
        shown = []
        for item in clause.expressions:
            value = self._sort_key(item, items, named, scope)
            if value.sql in columns:
                value = replace(value, sql=columns[value.sql])
            elif is_distinct:
                raise refusal(
                    item, "For SELECT DISTINCT, ORDER BY expressions must appear in select list"
                )
            shown.append(self._expressions.ordered(item, value))
        return ", ".join(shown)

    def _sort_key(
        self,
        item: exp.Expr,
        items: Sequence[tuple[Value, str | None]],
        named: list[Field],
        scope: Scope,
    ) -> Value:
        node = item.this
        if isinstance(node, exp.Literal) and not node.is_string:
            index = int(node.this) if node.this.isdecimal() else 0
            if not 1 <= index <= len(items):
                raise refusal(node, f"ORDER BY position {node.this} is not in select list")
            return items[index - 1][0]
        if isinstance(node, exp.Column) and not node.args.get("table"):
            found = Scope(named).named(node.name)
            if found:
                if any(each.value != found[0].value for each in found):
                    raise refusal(node, f"Column '{node.name}' is ambiguous")
                return found[0].value
        names = {
            each.name.lower() for each in node.find_all(exp.Column) if not each.args.get("table")
        }
        if names & {(field.name or "").lower() for field in named}:
            changed = {
                (field.name or "").lower() for field in named
                if not any(known.value == field.value for known in scope.fields)
            }  # fmt: skip
            if names & changed and scope.grouping is not None:
                raise refusal(
                    node, "an alias inside an expression of ORDER BY is not supported with GROUP BY"
                )
            if names & changed:
                return self._expressions.value(node, Scope(named, scope, None))
        return self._expressions.value(node, scope)

    def _limit(self, node: exp.Expr) -> str:
        limit, offset = node.args.get("limit"), node.args.get("offset")
        sql = ""
        if limit is not None:
            if isinstance(limit, exp.Fetch):
                options = limit.args.get("limit_options")
                if limit.args.get("percent") or (options and options.args.get("with_ties")):
                    raise refusal(node, "FETCH … WITH TIES is not supported")
                amount = limit.args.get("count") or exp.Literal.number(1)
            else:
                amount = limit.expression
            if isinstance(amount, exp.Literal) and amount.this.isdecimal():
                sql += f" LIMIT {amount.this}"
            elif not (isinstance(amount, exp.Column) and amount.name.lower() == "all"):
                raise refusal(node, "LIMIT needs a number")
        if offset is not None:
            if (
                not isinstance(offset.expression, exp.Literal)
                or not offset.expression.this.isdecimal()
            ):
                raise refusal(node, "OFFSET needs a number")
            if limit is not None and _starts_before(limit, offset):
                raise refusal(offset, "mismatched input 'OFFSET': LIMIT comes after OFFSET")
            sql += f" OFFSET {offset.expression.this}"
        return sql

    def _tail(self, node: exp.Expr, fields: Sequence[Field]) -> str:
        """Translates ORDER BY and LIMIT of a query that is not a SELECT."""
        ordered, sql = node.args.get("order"), ""
        if ordered is not None:
            items = [(field.value, field.name) for field in fields]
            sql = f" ORDER BY {self._order(ordered, items, fields, Scope(fields), False)}"
        return sql + self._limit(node)

    def _set_operation(
        self, node: exp.SetOperation, outer: Scope | None, ctes: Ctes
    ) -> tuple[str, list[Field]]:
        left, fields = self.query(node.left, outer, ctes)
        right, others = self.query(node.right, outer, ctes)
        word = type(node).__name__.upper()
        if node.args.get("by_name") or node.args.get("side"):
            raise refusal(node, f"this {word} is not supported")
        if len(fields) != len(others):
            message = f"{word} query has different number of fields: {len(fields)}, {len(others)}"
            raise refusal(node, message)
        arms, outputs = [list[str](), list[str]()], []
        for number, (a, b) in enumerate(zip(fields, others, strict=True), 1):
            kind = common(a.value.type, b.value.type)
            if kind is None:
                kinds = f"{a.value.type}, {b.value.type}"
                raise refusal(
                    node, f"column {number} in {word} query has incompatible types: {kinds}"
                )
            column = next(self._expressions.names)
            arms[0].append(f"{coerced(a.value.sql, a.value.type, kind)} AS {column}")
            arms[1].append(f"{coerced(b.value.sql, b.value.type, kind)} AS {column}")
            outputs.append(Field(a.name, Value(column, kind)))
        texts = [
            f"(SELECT {', '.join(arm)} FROM ({sql}))"
            for arm, sql in zip(arms, (left, right), strict=True)
        ]
        how = word if node.args.get("distinct") else f"{word} ALL"
        return f"SELECT * FROM ({texts[0]} {how} {texts[1]}){self._tail(node, outputs)}", outputs

    def _values(self, node: exp.Values, outer: Scope | None) -> tuple[str, list[Field]]:
        scope = Scope((), outer, None, "VALUES cannot contain aggregations", "no windows in VALUES")
        rows = [
            [self._expressions.value(each, scope) for each in _row_items(row)]
            for row in node.expressions
        ]
        kinds = [value.type for value in rows[0]]
        if len(kinds) == 1 and kinds[0].name == "row":
            raise refusal(node, "a row as the only value is not supported in VALUES")
        if len(rows) > 1 or len(kinds) == 1:
            for values in rows:
                if len(values) != len(kinds):
                    raise refusal(node, "VALUES rows have mismatched sizes")
                for n, value in enumerate(values):
                    both = common(kinds[n], value.type)
                    if both is None:
                        raise refusal(
                            node, f"VALUES column has incompatible types: {kinds[n]}, {value.type}"
                        )
                    kinds[n] = both
        columns = [next(self._expressions.names) for _ in kinds]
        shown = ", ".join(
            "("
            + ", ".join(
                f"CAST({coerced(value.sql, value.type, kind)} AS {kind.engine})"
                for value, kind in zip(values, kinds, strict=True)
            )
            + ")"
            for values in rows
        )
        table = next(self._relations.tables)
        fields = [Field(None, Value(name, kind)) for name, kind in zip(columns, kinds, strict=True)]
        sql = f"SELECT * FROM (VALUES {shown}) AS {table}({', '.join(columns)})"
        return sql + self._tail(node, fields), fields


_GROUPINGS: dict[type[exp.Expr], str] = {
    exp.Rollup: "ROLLUP",
    exp.Cube: "CUBE",
    exp.GroupingSets: "GROUPING SETS",
}


def _row_items(row: exp.Expr) -> Sequence[exp.Expr]:
    """Returns the values of one row: `(1, 2)` and `ROW(1, 2)` have two."""
    items = row.expressions if isinstance(row, exp.Tuple) else [row]
    only = items[0] if len(items) == 1 else None
    if isinstance(only, exp.Anonymous) and str(only.this).lower() == "row":
        return only.expressions
    return items


def _unaliased(node: exp.Expr) -> exp.Expr:
    return node.this if isinstance(node, exp.Alias) else node


def _name_of(node: exp.Expr) -> str | None:
    """Returns the name that a selected expression gives its column: a name's last part."""
    if isinstance(node, exp.Alias):
        return node.alias
    if isinstance(node, exp.Column):
        return node.name
    if isinstance(node, exp.Dot) and isinstance(node.expression, exp.Identifier):
        return node.expression.name if _name_of(node.this) is not None else None
    return None


def _aggregates(node: exp.Expr) -> bool:
    """Returns whether an expression has an aggregate that is not a window, outside subqueries."""
    if isinstance(node, exp.Query):
        return False
    if isinstance(node, exp.Window):
        call = node.this
        while isinstance(call, exp.Filter | exp.IgnoreNulls | exp.RespectNulls):
            call = call.this
        parts = [*call.expressions, *(node.args.get("partition_by") or [])]
        if node.args.get("order") is not None:
            parts += [each.this for each in node.args["order"].expressions]
        return any(map(_aggregates, parts))
    if isinstance(node, exp.GroupConcat):
        return True
    if isinstance(node, exp.Anonymous) and str(node.this).lower() in functions.aggregates:
        return True
    return any(_aggregates(each) for each in node.iter_expressions())


def _is_comparable(kind: Type) -> bool:
    return kind.name != "function"


def _starts_before(first: exp.Expr, second: exp.Expr) -> bool:
    return (place(first) or (0, 0)) < (place(second) or (0, 0))
