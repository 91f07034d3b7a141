"""Parses statements: sqlglot's tree of Trino's SQL, of which only known nodes are accepted."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, ClassVar

from sqlglot import exp
from sqlglot.dialects.trino import Trino
from sqlglot.errors import ParseError, TokenError
from sqlglot.parsers.trino import TrinoParser
from sqlglot.tokenizer_core import Token, TokenType

from opentrail.core.errors import StatementRefused
from opentrail.lake.dialect.expressions import refusal

#: Functions whose calls have special syntax.
_PARSED = ("CAST", "TRY_CAST", "EXTRACT", "TRIM", "POSITION", "LISTAGG", "SUBSTRING")
_STORE = re.compile(
    r"(?i)(?<![\w\"'-])[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(?![\w\"'-])"
)
_QUOTED_OR_COMMENT = re.compile(r"'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\"|--[^\n]*|/\*.*?\*/", re.S)


class Lake(Trino):
    """sqlglot's Trino, which leaves calls unchanged."""

    INDEX_OFFSET = 0

    class Tokenizer(Trino.Tokenizer):
        """Without keywords that Trino does not have."""

        KEYWORDS: ClassVar = {
            word: token for word, token in Trino.Tokenizer.KEYWORDS.items() if word != "QUALIFY"
        }

    class Parser(TrinoParser):
        """Without any functions."""

        FUNCTIONS: ClassVar[dict[str, Any]] = {}
        FUNCTION_PARSERS: ClassVar = {
            name: parse for name, parse in TrinoParser.FUNCTION_PARSERS.items() if name in _PARSED
        }

        def _parse_types(self, *args: Any, **kwargs: Any) -> Any:
            """Keeps the words of a type: sqlglot has one type for several of Trino's."""
            start = self._index
            found = super()._parse_types(*args, **kwargs)
            if isinstance(found, exp.DataType):
                found.meta["text"] = self._find_sql(self._tokens[start], self._prev)
            return found

        def _parse_type(self, *args: Any, **kwargs: Any) -> Any:
            """Distinguishes `DATE '2024-01-01'` from a cast."""
            start = self._curr
            found = super()._parse_type(*args, **kwargs)
            if isinstance(found, exp.Cast) and start.text.upper() not in ("CAST", "TRY_CAST", "("):
                found.meta["is_literal"] = True
            return found


def parse(statement: str) -> exp.Expr:
    """Returns the tree of a SELECT, in which all nodes are known.

    Raises:
        StatementRefused: it cannot be parsed, or uses an unsupported clause.
    """
    text, stores = _without_ids(statement)
    try:
        tokens = Lake().tokenize(text)
        for token in tokens:
            if token.token_type in (TokenType.PARAMETER, TokenType.PLACEHOLDER):
                raise StatementRefused(f"{_at(token, text)}: parameters are not supported")
        while tokens and tokens[-1].token_type == TokenType.SEMICOLON:
            tokens.pop()
        _check_numbers(tokens, text)
        trees = Lake().parser().parse(tokens, text)
    except ParseError as error:
        raise StatementRefused(_described(error, text)) from None
    except TokenError as error:
        raise StatementRefused(f"it cannot be parsed: {str(error)[:200]}") from None
    tree = trees[0] if len(trees) == 1 else None
    if tree is None:
        raise StatementRefused("one SELECT statement was expected")
    if not isinstance(tree, exp.Query | exp.Values):
        raise StatementRefused("only SELECT statements are supported")
    _check_nodes(tree)
    for table in tree.find_all(exp.Table):
        name = table.name.lower()
        if name in stores:
            table.this.set("this", stores[name])
    return tree


def tables_in(statement: str) -> frozenset[str]:
    """Returns the names of the tables that a statement reads, in lower case.

    Names of its WITH clauses hide tables, as in the translation. A query gets only the tables that
    are named here.

    Raises:
        StatementRefused: it cannot be parsed, or uses an unsupported clause.
    """
    try:
        tree = parse(statement)
    except RecursionError:
        raise StatementRefused("the statement is nested too deeply") from None
    names: set[str] = set()
    waiting: list[tuple[exp.Expr, frozenset[str]]] = [(tree, frozenset())]
    while waiting:
        node, hidden = waiting.pop()
        clause = node.args.get("with_")
        is_recursive = clause is not None and clause.args.get("recursive")
        for each in clause.expressions if clause is not None else ():
            own = hidden | {each.alias.lower()}
            if is_recursive and isinstance(each.this, exp.Union):
                waiting += [(each.this.left, hidden), (each.this.right, own)]
            else:
                waiting.append((each.this, hidden))
            hidden = own
        if isinstance(node, exp.Table):
            name = node.name.lower()
            if node.args.get("db") or name not in hidden:
                names.add(name)
        waiting += [(child, hidden) for child in node.iter_expressions() if child is not clause]
    return frozenset(names)


_EXPECTED = re.compile(r"Expect(?:ing|ed) (?P<what>.*?)(?: but got .*)?", re.S)


def _described(error: ParseError, text: str) -> str:
    """Returns the place and the reason of an error, in Trino's words."""
    first = error.errors[0] if error.errors else {}
    found = first.get("highlight")
    if not first.get("line") or not found:
        return "it cannot be parsed"
    column = first["col"] - len(found) + 1
    # sqlglot gives the last token before a missing one, else the token that does not fit.
    is_end = "Unexpected token" not in first["description"] and text.rstrip().endswith(found)
    reason = f"unexpected end after '{found}'" if is_end else f"mismatched input '{found}'"
    if expected := _EXPECTED.fullmatch(first["description"]):
        reason += f". Expecting: {expected['what']}"
    return f"line {first['line']}:{column}: {reason}"


def _check_numbers(tokens: Sequence[Token], text: str) -> None:
    """Refuses numbers that the tokenizer cuts: `1_000` and `0xFF`, which reads as `X'FF'`."""
    for token in tokens:
        following = text[token.end + 1 : token.end + 2]
        is_cut = token.token_type == TokenType.NUMBER and re.match(r"\w", following)
        if is_cut or (token.token_type == TokenType.HEX_STRING and text[token.start] == "0"):
            raise StatementRefused(f"{_at(token, text)}: this form of a number is not supported")


def _at(token: Token, text: str) -> str:
    """Returns the place where a token begins; sqlglot's `col` is its end."""
    return f"line {token.line}:{token.start - text.rfind(chr(10), 0, token.start)}"


def _without_ids(statement: str) -> tuple[str, dict[str, str]]:
    """Puts names in the place of store ids; returns the names with their ids.

    No parser takes an id with hyphens; a name of the same length keeps all places.
    """
    stores: dict[str, str] = {}

    def named(found: re.Match[str]) -> str:
        name = "s" + found[0].replace("-", "_")[1:]
        stores[name.lower()] = found[0].lower()
        return name

    parts, end = [], 0
    for kept in _QUOTED_OR_COMMENT.finditer(statement):
        parts += [_STORE.sub(named, statement[end : kept.start()]), kept[0]]
        end = kept.end()
    parts.append(_STORE.sub(named, statement[end:]))
    return "".join(parts), stores


#: Nodes of sqlglot's tree that are translated, with their arguments; all others are refused.
_NODES = {
    getattr(exp, name): frozenset(arguments.split())
    for name, _, arguments in (
        line.partition(" ")
        for line in """\
Select expressions from_ joins where group having order limit offset distinct with_ windows
Union this expression distinct with_ order limit offset
Except this expression distinct with_ order limit offset
Intersect this expression distinct with_ order limit offset
Subquery this alias with_ order limit offset joins
Values expressions alias order limit offset with_
With expressions recursive
CTE this alias
TableAlias this columns
From this
Join this side kind on using
Table this db catalog alias joins
Unnest expressions alias offset
Lateral this alias
Where this
Having this
Group expressions
Rollup expressions
Cube expressions
GroupingSets expressions
Order this expressions
Ordered this desc nulls_first
Limit expression
Fetch direction count limit_options
LimitOptions rows
Offset expression
Distinct expressions
Star
Alias this alias
Column this table db catalog
Identifier this quoted
Dot this expression
Bracket this expressions
Literal this is_string
Null
Boolean this
HexString this
Interval this unit
IntervalSpan this expression
Var this
Array expressions
Tuple expressions
Paren this
EQ this expression
NEQ this expression
LT this expression
LTE this expression
GT this expression
GTE this expression
NullSafeEQ this expression
NullSafeNEQ this expression
Any this
All this
Between this low high
In this expressions query
Exists this
And this expression
Or this expression
Not this
Is this expression
Like this expression negate
Escape this expression
Add this expression
Sub this expression
Mul this expression
Div this expression typed
Mod this expression
Neg this
DPipe this expression
Case this ifs default
If this true false
Cast this to
TryCast this to safe
DataType this expressions nested
DataTypeParam this
ColumnDef this kind
ParseJSON this is_literal
Anonymous this expressions
Lambda this expressions
Extract this expression
CurrentTimestamp this
CurrentDate
AtTimeZone this zone
StrPosition this substr
Trim this expression position
Substring this start length
Filter this expression
GroupConcat this separator
Window this partition_by order spec over alias
WindowSpec kind start start_side end end_side
IgnoreNulls this
RespectNulls this""".splitlines()
    )
}


def _check_nodes(tree: exp.Expr) -> None:
    for node in tree.walk():
        known = _NODES.get(type(node))
        if known is None:
            raise refusal(
                node, f"{type(node).__name__.upper()} is not supported: {node.sql()[:60]}"
            )
        for name, value in node.args.items():
            if name not in known and value and value != [None]:
                raise refusal(
                    node,
                    f"{name.strip('_').upper()} is not supported in {type(node).__name__.upper()}",
                )
