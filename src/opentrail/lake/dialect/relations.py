"""Translates FROM: tables, subqueries, UNNEST and joins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

from sqlglot import exp

from opentrail.lake.dialect.casts import coerced
from opentrail.lake.dialect.expressions import Expressions, refusal
from opentrail.lake.dialect.record_members import member
from opentrail.lake.dialect.scopes import (
    CATALOGS,
    DATABASES,
    Catalog,
    Field,
    QueryTable,
    RecordColumn,
    Scope,
    Value,
)
from opentrail.lake.dialect.types import BIGINT, common

#: Columns of each common table expression, by its name in lower case.
Ctes = dict[str, list[Field]]


class Relations:
    """Translates the relations of one statement.

    Args:
        catalog: the tables.
        expressions: translates expressions.
        query: translates a subquery; returns its text and its columns.
    """

    def __init__(
        self,
        catalog: Catalog,
        expressions: Expressions,
        query: Callable[[exp.Expr, Scope | None, Ctes], tuple[str, list[Field]]],
    ) -> None:
        self._catalog = catalog
        self._expressions = expressions
        self._query = query
        #: Names for relations, unique in the statement.
        self.tables = (f"t{n}" for n in count(1))
        #: Records whose members the statement reads.
        self.records: list[RecordColumn] = []

    def renamed(self, node: exp.Expr, fields: list[Field], names: Sequence[str]) -> list[Field]:
        """Returns the columns of an item under the names of its alias."""
        if not names:
            return fields
        if len(names) != len(fields):
            message = f"Column alias list has {len(names)} entries but"
            raise refusal(node, f"{message} '{node.alias}' has {len(fields)} columns available")
        return [replace(each, name=name) for each, name in zip(fields, names, strict=True)]

    def new(self, value: Value, name: str | None) -> tuple[str, Field]:
        """Gives an expression a column name; returns `sql AS name` and the field."""
        column = next(self._expressions.names)
        return f"{value.sql} AS {column}", Field(name, Value(column, value.type))

    def _relation(
        self,
        node: exp.Expr,
        outer: Scope | None,
        left: list[Field],
        ctes: Ctes,
    ) -> tuple[str, list[Field]]:
        """Translates an item of FROM; UNNEST and LATERAL see the columns on their left."""
        if isinstance(node, exp.Table):
            sql, fields, name = self._table(node, ctes)
        elif isinstance(node, exp.Unnest):
            return self._unnest(node, Scope(left, outer, None, "UNNEST takes no aggregates"))
        elif isinstance(node, exp.Lateral):
            inner = node.this.this if isinstance(node.this, exp.Subquery) else node.this
            query, fields = self._query(inner, Scope(left, outer), ctes)
            sql, name = f"LATERAL ({query})", ""
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table):
            sql, fields = self.joined(node.this, node.this.args.get("joins") or [], outer, ctes)
            sql, name = f"({sql})", ""
            if not node.alias:
                return sql, fields
        elif isinstance(node, exp.Subquery | exp.Values):
            inner = node.this if isinstance(node, exp.Subquery) else node
            query, fields = self._query(inner, outer, ctes)
            sql, name = f"({query})", ""
            if node.args.get("joins"):
                raise refusal(node, "this join is not supported")
        else:
            raise refusal(node, f"{type(node).__name__.upper()} is not supported in FROM")
        if node.args.get("sample") is not None or node.args.get("pivots"):
            raise refusal(node, "TABLESAMPLE and PIVOT are not supported")
        alias = node.args.get("alias")
        names = [column.name for column in alias.args.get("columns") or []] if alias else []
        fields = self.renamed(node, fields, names)
        qualifier = node.alias or name or None
        return (
            f"{sql} AS {next(self.tables)}",
            [replace(each, qualifier=qualifier) for each in fields],
        )

    def _table(self, node: exp.Table, ctes: Ctes) -> tuple[str, list[Field], str]:
        if not isinstance(node.this, exp.Identifier):
            raise refusal(node, "table functions are not supported")
        name = node.name
        for part, known_names in (("db", DATABASES), ("catalog", CATALOGS)):
            given = node.args.get(part)
            if given is not None and given.name.lower() not in known_names:
                raise refusal(node, f"Schema or catalog '{given.name}' does not exist")
        if node.args.get("version") or node.args.get("when"):
            raise refusal(node, "FOR is not supported")
        known = ctes.get(name.lower()) if not node.args.get("db") else None
        if known is not None:
            pairs = [self.new(each.value, each.name) for each in known]
            source = known[0].qualifier
        else:
            table = self._catalog.table(name)
            if table is None:
                raise refusal(node, f"Table '{name.lower()}' does not exist")
            if any(value.path is not None for _, value in table.columns):
                return (*self._record_table(table), name)
            pairs = [self.new(value, column) for column, value in table.columns]
            source = table.sql
        shown = ", ".join(sql for sql, _ in pairs)
        return f"(SELECT {shown} FROM {source})", [field for _, field in pairs], name

    def _record_table(self, table: QueryTable) -> tuple[str, list[Field]]:
        """Translates a table of records: most columns are read from JSON where they are used."""
        record = RecordColumn(next(self._expressions.names))
        self.records.append(record)
        shown, fields = [record.columns], []
        for name, value in table.columns:
            if value.path is None:
                sql, field = self.new(value, name)
                shown.append(sql)
            else:
                field = Field(name, member(value.path, value.type, record))
            if value.stored is not None:
                stored = next(self._expressions.names)
                shown.append(f"{value.stored} AS {stored}")
                field = replace(field, value=replace(field.value, stored=stored))
            fields.append(field)
        return f"(SELECT {', '.join(shown)} FROM {table.sql})", fields

    def _unnest(self, node: exp.Unnest, scope: Scope) -> tuple[str, list[Field]]:
        shown: list[str] = []
        fields: list[Field] = []
        longest = []
        for each in node.expressions:
            value = self._expressions.value(each, scope)
            item = next(self._expressions.names)
            if value.type.name == "map":
                shown.append(f"unnest(map_entries({value.sql})) AS {item}")
                longest.append(f"CAST(cardinality({value.sql}) AS BIGINT)")
                parts = zip(("key", "value"), value.type.args, strict=True)
                fields += [Field(None, Value(f"{item}.{part}", kind)) for part, kind in parts]
                continue
            if value.type.name != "array":
                raise refusal(each, f"Cannot unnest type: {value.type}")
            shown.append(f"unnest({value.sql}) AS {item}")
            longest.append(f"len({value.sql})")
            element = value.type.args[0]
            if element.name == "row":
                fields += [
                    Field(name, Value(f"struct_extract({item}, 'f{n}')", kind))
                    for n, (name, kind) in enumerate(zip(element.fields, element.args, strict=True))
                ]
            else:
                fields.append(Field(None, Value(item, element)))
        offset = node.args.get("offset")
        if offset:
            item = next(self._expressions.names)
            shown.append(f"unnest(range(1, greatest({', '.join(longest)}, 0) + 1)) AS {item}")
            fields.append(Field("ordinality", Value(item, BIGINT)))
        pairs = [self.new(each.value, each.name) for each in fields]
        alias = node.args.get("alias")
        names = [column.name for column in alias.args.get("columns") or []] if alias else []
        if isinstance(offset, exp.Identifier):
            names.append(offset.name)
        renamed = self.renamed(node, [field for _, field in pairs], names)
        columns = ", ".join(sql for sql, _ in pairs)
        table = next(self.tables)
        sql = f"LATERAL (SELECT {columns} FROM (SELECT {', '.join(shown)})) AS {table}"
        qualifier = node.alias or None
        return sql, [replace(each, qualifier=qualifier) for each in renamed]

    def joined(
        self,
        first: exp.Expr,
        joins: Sequence[exp.Join],
        outer: Scope | None,
        ctes: Ctes,
    ) -> tuple[str, list[Field]]:
        """Translates an item of FROM, and the items that are joined to it."""
        sql, fields = self._relation(first, outer, [], ctes)
        for join in joins:
            sql, fields = self._join(sql, fields, join, outer, ctes)
        return sql, fields

    def _join(
        self,
        sql: str,
        fields: list[Field],
        join: exp.Join,
        outer: Scope | None,
        ctes: Ctes,
    ) -> tuple[str, list[Field]]:
        side, kind = (join.args.get("side") or "").upper(), (join.args.get("kind") or "").upper()
        if join.args.get("method") or kind not in ("", "INNER", "CROSS", "OUTER"):
            raise refusal(join, f"{join.args.get('method') or kind} join is not supported")
        right, others = self._relation(join.this, outer, fields, ctes)
        on, using = join.args.get("on"), join.args.get("using")
        if isinstance(join.this, exp.Unnest) and side not in ("", "LEFT"):
            raise refusal(join, f"{side} JOIN involving UNNEST is not supported")
        is_true = isinstance(on, exp.Boolean) and on.this
        if isinstance(join.this, exp.Unnest) and on is not None and not is_true:
            raise refusal(join, "JOIN involving UNNEST is only supported with condition ON TRUE")
        if side and on is None and not using:
            raise refusal(join, f"{side} JOIN needs ON or USING")
        both = [*fields, *others]
        if using:
            return self._using(sql, fields, right, others, join, side)
        if on is None:
            return f"{sql} CROSS JOIN {right}", both
        why = "JOIN clause cannot contain aggregations, window functions or grouping operations"
        test = self._expressions.condition(on, Scope(both, outer, None, why, why), "JOIN ON clause")
        return f"{sql} {side} JOIN {right} ON {test}", both

    def _using(
        self,
        sql: str,
        fields: list[Field],
        right: str,
        others: list[Field],
        join: exp.Join,
        side: str,
    ) -> tuple[str, list[Field]]:
        tests, merged, used = [], [], []
        for name in join.args["using"]:
            a, b = Scope(fields).named(name.name), Scope(others).named(name.name)
            if len(a) != 1 or len(b) != 1:
                raise refusal(
                    join, f"Column '{name.name}' is missing from one side of join, or ambiguous"
                )
            kind = common(a[0].value.type, b[0].value.type)
            if kind is None or kind.args:
                raise refusal(join, f"Column types of USING do not match: {name.name}")
            first, second = (
                coerced(each.value.sql, each.value.type, kind) for each in (a[0], b[0])
            )
            tests.append(f"{first} = {second}")
            value = {"RIGHT": second, "FULL": f"coalesce({first}, {second})"}.get(side, first)
            merged.append(Field(name.name, Value(value, kind)))
            used += [a[0], b[0]]
        rest = [each for each in [*fields, *others] if not any(each is one for one in used)]
        return f"{sql} {side} JOIN {right} ON {' AND '.join(tests)}", [*merged, *rest]
