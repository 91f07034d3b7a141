"""Translates expressions: each gets Trino's type, and DuckDB's text with Trino's meaning."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count

from sqlglot import exp

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect.casts import coerced
from opentrail.lake.dialect.functions import Overload
from opentrail.lake.dialect.scopes import Field, Scope, Value
from opentrail.lake.dialect.types import BOOLEAN, UNKNOWN, Type, coerces, common

#: A time in a string literal that is compared with a time.
_TIME = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?( UTC|Z)?")

Translate = Callable[..., Value]
#: Kind of node → what translates it, and name of a function → what translates its calls. The
#: modules of this package fill both.
NODES: dict[type[exp.Expr], Translate] = {}
CALLS: dict[str, Translate] = {}


def translates(*kinds: type[exp.Expr]) -> Callable[[Translate], Translate]:
    """Registers what translates nodes of some kinds."""

    def register(translate: Translate) -> Translate:
        NODES.update(dict.fromkeys(kinds, translate))
        return translate

    return register


def calls(*names: str) -> Callable[[Translate], Translate]:
    """Registers what translates calls that no line of `functions.py` can describe."""

    def register(translate: Translate) -> Translate:
        CALLS.update(dict.fromkeys(names, translate))
        return translate

    return register


def quoted(text: str) -> str:
    """Returns a string literal."""
    return "'" + text.replace("'", "''") + "'"


def place(node: exp.Expr) -> tuple[int, int] | None:
    """Returns the line and column where a node begins, from 1; None if it has no place."""
    places = (
        (each.meta["line"], each.meta["col"] - (each.meta["end"] - each.meta["start"]))
        for each in node.walk()
        if "line" in each.meta
    )
    return min(places, default=None)


def refusal(node: exp.Expr, message: str) -> StatementRefused:
    """Returns an error with the place of a node."""
    found = place(node)
    return StatementRefused(f"line {found[0]}:{found[1]}: {message}" if found else message)


class Expressions:
    """Translates the expressions of one statement.

    Args:
        subquery: translates a query inside an expression; gives its text and columns.
    """

    def __init__(self, subquery: Callable[[exp.Expr, Scope], tuple[str, list[Field]]]) -> None:
        self.subquery = subquery
        self.names = (f"c{n}" for n in count(1))
        #: Named windows of the query at hand.
        self.windows: dict[str, exp.Window] = {}

    def value(self, node: exp.Expr, scope: Scope) -> Value:
        """Translates an expression.

        Raises:
            StatementRefused: it is wrong, or not supported.
        """
        if scope.grouping is not None and not isinstance(node, exp.Literal | exp.Column):
            key = self._key(node, scope)
            if key is not None:
                return key
        translate = NODES.get(type(node))
        if translate is None:
            raise refusal(
                node, f"{type(node).__name__.upper()} is not supported: {node.sql()[:60]}"
            )
        return translate(self, node, scope)

    def condition(self, node: exp.Expr, scope: Scope, what: str) -> str:
        """Translates an expression that must be a boolean."""
        value = self.value(node, scope)
        if value.type not in (BOOLEAN, UNKNOWN):
            raise refusal(node, f"{what} must evaluate to a boolean (actual: {value.type})")
        return value.sql

    def _key(self, node: exp.Expr, scope: Scope) -> Value | None:
        if scope.grouping is None or not scope.grouping.keys:
            return None
        try:
            value = self.value(node, scope.grouping.source)
        except StatementRefused:
            return None
        return scope.grouping.keys.get(value.sql)

    def one_type(self, values: Sequence[Value], node: exp.Expr, why: str) -> Type:
        kind = UNKNOWN
        for value in values:
            both = common(kind, value.type)
            if both is None:
                raise refusal(node, f"{why} or coercible to a common type: {kind}, {value.type}")
            kind = both
        return kind

    def as_type(self, value: Value, kind: Type, node: exp.Expr) -> str:
        if not coerces(value.type, kind):
            raise refusal(node, f"{value.type} cannot be used as {kind}")
        return coerced(value.sql, value.type, kind)

    def compared(self, left: Value, operator: str, right: Value, node: exp.Expr) -> str:
        left, right = self.with_time(left, right, node), self.with_time(right, left, node)
        kind = common(left.type, right.type)
        is_ordering = operator not in ("=", "<>")
        if kind is None or (is_ordering and not kind.is_orderable):
            raise refusal(node, f"Cannot apply operator: {left.type} {operator} {right.type}")
        a, b = coerced(left.sql, left.type, kind), coerced(right.sql, right.type, kind)
        if kind.name == "row":
            if is_ordering:
                raise refusal(node, "comparing rows by < and > is not supported")
            pairs = [
                self.compared(
                    Value(f"struct_extract({a}, 'f{n}')", each),
                    "=",
                    Value(f"struct_extract({b}, 'f{n}')", each),
                    node,
                )
                for n, each in enumerate(kind.args)
            ]
            same = f"({' AND '.join(pairs)})"
            return same if operator == "=" else f"(NOT {same})"
        if kind.name in ("array", "map"):
            if any(each.args or each.name in ("double", "real") for each in kind.args):
                raise refusal(node, f"comparing {kind} is not supported")
            if kind.name == "map":
                same = f"lake_same_map({a}, {b})"
                return same if operator == "=" else f"(NOT {same})"
            return f"(lake_no_nulls_array({a}, {b}) AND {a} {operator} {b})"
        if kind.name in ("double", "real"):
            return f"lake_compare({a}, {b}, {a} {operator} {b}, {str(operator == '<>').lower()})"
        return f"({a} {operator} {b})"

    def with_time(self, value: Value, other: Value, node: exp.Expr) -> Value:
        """Reads a string literal that is compared with a time as one, as CloudTrail Lake does."""
        kinds = ("timestamp", "timestamptz", "date")
        if value.text is None or other.type.name not in kinds:
            return value
        if not _TIME.fullmatch(value.text):
            raise refusal(node, f"Value cannot be cast to {other.type.name}: {value.text}")
        try:
            datetime.fromisoformat(value.text.removesuffix(" UTC").removesuffix("Z"))
        except ValueError:
            raise refusal(
                node, f"Value cannot be cast to {other.type.name}: {value.text}"
            ) from None
        text = value.text.removesuffix(" UTC").removesuffix("Z").replace("T", " ")
        return Value(f"CAST({quoted(text)} AS TIMESTAMP)", Type("timestamp", precision=6))

    def matched(
        self,
        name: str,
        forms: Sequence[Overload] | None,
        node: exp.Expr,
        arguments: Sequence[exp.Expr | Value],
        scope: Scope,
        finish: Callable[[str], str] | None = None,
    ) -> Value:
        if not forms:
            raise refusal(node, f"Function '{name}' not registered, or not supported")
        given = [
            None
            if isinstance(each, exp.Lambda)
            else each
            if isinstance(each, Value)
            else self.value(each, scope)
            for each in arguments
        ]
        form, bound = self._best(name, forms, given, node)
        texts = []
        kinds = form.types(len(given)) or ()
        for argument, value, kind in zip(arguments, given, kinds, strict=True):
            if isinstance(argument, exp.Lambda):
                texts.append(self._lambda_argument(argument, kind, bound, scope))
            elif value is not None:
                texts.append(coerced(value.sql, value.type, _filled(kind, bound)))
        joined = ", ".join(texts)
        sql = form.expression.replace("{*}", joined).replace("{|}", " || ".join(texts))
        sql = re.sub(r"\{(\d)\}", lambda found: texts[int(found[1])], sql)
        if finish is not None:
            sql = finish(sql)
        result = _filled(form.result, bound)
        return Value(f"CAST({sql} AS {result.engine})" if result.is_number else sql, result)

    def _best(
        self,
        name: str,
        forms: Sequence[Overload],
        given: Sequence[Value | None],
        node: exp.Expr,
    ) -> tuple[Overload, dict[str, Type]]:
        """Returns the form of a function that changes the fewest arguments, and its variables."""
        best: tuple[int, Overload, dict[str, Type]] | None = None
        for form in forms:
            kinds = form.types(len(given))
            bound = _bound(kinds, given) if kinds is not None else None
            if kinds is None or bound is None:
                continue
            changes = sum(
                value is not None and value.type != _filled(kind, bound)
                for value, kind in zip(given, kinds, strict=True)
            )
            if best is None or changes < best[0]:
                best = changes, form, bound
        if best is None:
            shown = ", ".join("function" if each is None else str(each.type) for each in given)
            expected = ", ".join(map(str, forms))
            message = f"Unexpected parameters ({shown}) for function {name}. Expected: {expected}"
            raise refusal(node, message)
        return best[1], best[2]

    def _lambda_argument(
        self, node: exp.Lambda, kind: Type, bound: dict[str, Type], scope: Scope
    ) -> str:
        result, text = self.lambda_of(node, kind, bound, scope)
        expected = kind.args[-1]
        if expected.name.isupper():
            bound[expected.name] = result
        elif result not in (expected, UNKNOWN):
            raise refusal(node, f"a function that returns {expected} was expected")
        return text

    def lambda_of(
        self, node: exp.Lambda, kind: Type, bound: dict[str, Type], scope: Scope
    ) -> tuple[Type, str]:
        parameters = [_filled(each, bound) for each in kind.args[:-1]]
        if len(parameters) != len(node.expressions):
            raise refusal(node, f"a function of {len(parameters)} parameters was expected")
        names = [f"v{next(self.names)}" for _ in parameters]
        fields = [
            Field(each.name, Value(name, parameter))
            for each, name, parameter in zip(node.expressions, names, parameters, strict=True)
        ]
        why = "Lambda expression cannot contain aggregations, window functions or subqueries"
        body = self.value(node.this, Scope(fields, scope, None, why, why))
        return body.type, f"lambda {', '.join(names)}: {body.sql}"

    def order(self, items: Sequence[exp.Expr], scope: Scope) -> str:
        """Translates the items of ORDER BY inside a call or a window; NULLs are last."""
        shown = []
        for item in items:
            value = self.value(item.this, scope)
            shown.append(self.ordered(item, value))
        return " ORDER BY " + ", ".join(shown)

    def ordered(self, item: exp.Expr, value: Value) -> str:
        if not value.type.is_orderable or value.type.args:
            raise refusal(
                item,
                f"Type {value.type} is not orderable, and therefore cannot be used in ORDER BY",
            )
        way = "DESC" if item.args.get("desc") else "ASC"
        nulls = "FIRST" if item.args.get("nulls_first") else "LAST"
        return f"{value.sql} {way} NULLS {nulls}"


def _bound(kinds: Sequence[Type], given: Sequence[Value | None]) -> dict[str, Type] | None:
    """Binds the type variables of parameters; None if the arguments do not fit."""
    bound: dict[str, Type] = {}
    for kind, value in zip(kinds, given, strict=True):
        if value is None:
            if kind.name != "function":
                return None
        elif kind.name == "function" or not _bind(kind, value.type, bound):
            return None
    for kind, value in zip(kinds, given, strict=True):
        if value is not None and not coerces(value.type, _filled(kind, bound)):
            return None
    if "O" in bound and not bound["O"].is_orderable:
        return None
    return bound


def _bind(kind: Type, given: Type, bound: dict[str, Type]) -> bool:
    if len(kind.name) == 1 and kind.name.isupper():
        if kind.name in bound:
            both = common(bound[kind.name], given)
            if both is None:
                return False
            bound[kind.name] = both
        else:
            bound[kind.name] = given
        return True
    if kind.args:
        if given.name == "unknown":
            return True
        if kind.name != given.name or len(kind.args) != len(given.args):
            return False
        return all(_bind(a, b, bound) for a, b in zip(kind.args, given.args, strict=True))
    return coerces(given, kind) or (kind.name == given.name and not given.args)


def _filled(kind: Type, bound: dict[str, Type]) -> Type:
    if len(kind.name) == 1 and kind.name.isupper():
        return bound.get(kind.name, UNKNOWN)
    if not kind.args:
        return kind
    return replace(kind, args=tuple(_filled(each, bound) for each in kind.args))
