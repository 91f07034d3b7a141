"""Parses search expressions; errors have the position."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from difflib import get_close_matches

from opentrail.core.errors import UsageError
from opentrail.core.event import parse_span, parse_time
from opentrail.core.expression.tree import (
    FIELDS,
    MEMBERS,
    And,
    Between,
    Compare,
    Expression,
    Is,
    Not,
    Opens,
    Or,
    Pattern,
    Text,
)

_STATES = ("success", "failure", "read", "write")
#: Maximum levels of nesting.
_MAX_NESTING = 100
#: Maximum characters of an expression.
_MAX_LENGTH = 10_000
_ACCOUNT_DIGITS = 12
#: Characters of an address or a network.
_LIKE_ADDRESS = re.compile(r"(?=.*\d)[\d./]+|[\da-fA-F]*:[\da-fA-F:./]+")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


class ExpressionError(UsageError):
    """An invalid expression; the message has the position and the expected input.

    Args:
        message: the message.
        at: the index of the first wrong character; None: the whole expression is wrong.
        length: the number of wrong characters.
    """

    def __init__(self, message: str, at: int | None = None, length: int = 0) -> None:
        super().__init__(message)
        self.at = at
        self.length = length


@dataclass(frozen=True, slots=True)
class Term:
    """A term of an expression; all terms must match.

    Attributes:
        text: the term as written, with alternatives in parentheses, so that terms joined by AND
            form an expression.
        meaning: the parsed term.
    """

    text: str
    meaning: Expression


@dataclass(frozen=True, slots=True)
class _Token:
    """A token of an expression: `word`, `quoted`, `operator`, `(`, `)`, `,` or `end`."""

    kind: str
    text: str
    at: int


_PIECE = re.compile(
    r"""\s*(?:(?P<paren>[(),])|(?P<operator>!=|<=|>=|=|<|>)|"(?P<quoted>(?:[^"\\]|\\.)*)"
    |(?P<word>(?:[^\s()",=<>!:\\]|!(?!=)|\\.|:(?=[^\s]*))+)|(?P<bad>\S))""",
    re.VERBOSE | re.DOTALL,
)


#: A name, a colon without a backslash, and the remainder.
_COLON = re.compile(r"((?:[^:\\]|\\.)*)(:?)(.*)", re.DOTALL)
#: A member in quotation marks within a path, and its continuation: `tags."aws:team"=x`.
_QUOTED_MEMBER = re.compile(r'"((?:[^"\\]|\\.)*)"((?:[.:](?:[^\s()",=<>!\\]|\\.)*)?)')
_OPERATOR = re.compile(r"\s*(?:!=|<=|>=|=|<|>)")
#: `text:` finds parts of words.
_PART = "text"
#: `opens:22` finds calls that allow traffic to a port.
_OPENS = "opens"
_MAX_PORT = 65_535


def parse(text: str, now: datetime) -> Expression:
    """Parses an expression; an empty one matches every event.

    Args:
        text: the expression.
        now: the end of `last 2h`; aware.

    Raises:
        ExpressionError: it is invalid; the message has the column and the expected input.
    """
    if len(text) > _MAX_LENGTH:
        raise ExpressionError(f"the expression is longer than {_MAX_LENGTH} characters")
    return _Parser(text, now).parse_all()


def terms_of(text: str, now: datetime) -> list[Term]:
    """Splits an expression at its outermost ANDs, written or implied.

    Args:
        text: the expression.
        now: the end of `last 2h`; aware.

    Raises:
        ExpressionError: it is invalid.
    """
    parse(text, now)
    return _Parser(text, now).parse_terms()


def _tokens(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    position = 0
    while position < len(text.rstrip()):
        match = _PIECE.match(text, position)
        if match is None or match["bad"] is not None:
            at = position if match is None else match.start("bad")
            what = "a quotation mark that is closed" if text[at] == '"' else "a word or a value"
            raise _unexpected(at, what, text[at : at + 20])
        if match["paren"]:
            tokens.append(_Token(match["paren"], match["paren"], match.start("paren")))
        elif match["operator"]:
            tokens.append(_Token("operator", match["operator"], match.start("operator")))
        elif match["quoted"] is not None:
            tokens.append(_Token("quoted", match["quoted"], match.start("quoted") - 1))
        else:
            word, at, end = match["word"], match.start("word"), match.end()
            is_path = word.partition(".")[0] in MEMBERS
            while is_path and word.endswith(".") and (member := _QUOTED_MEMBER.match(text, end)):
                word += re.sub(r"([.:\\])", r"\\\1", _unescaped(member[1])) + member[2]
                end = member.end()
            tokens += _split_word(word, at, tokens, bool(_OPERATOR.match(text, end)))
            position = end
            continue
        position = match.end()
    return [*tokens, _Token("end", "", len(text))]


def _split_word(word: str, at: int, before: list[_Token], is_compared: bool) -> list[_Token]:
    """Splits `field:value`; colons in values after operators, in times and in ARNs remain.

    Colons in a path before an operator, and colons after a backslash, remain as well:
    `tags.aws:team=x`.
    """
    follows_operator = bool(before) and before[-1].kind == "operator"
    name, colon, value = _COLON.match(word).groups()  # type: ignore[union-attr]
    is_path = name.partition(".")[0] in MEMBERS
    is_field = name.lower() in FIELDS or is_path or name in ("is", _PART, _OPENS)
    is_arn = word.startswith("arn:aws")
    if follows_operator or not colon or not is_field or is_arn or (is_path and is_compared):
        return [_Token("word", word, at)]
    tokens = [_Token("word", name, at), _Token("operator", ":", at + len(name))]
    return [*tokens, _Token("word", value, at + len(name) + 1)] if value else tokens


def _unexpected(at: int, expected: str, text: str) -> ExpressionError:
    found = repr(text) if text else "the end"
    return ExpressionError(f"column {at + 1}: expected {expected}, found {found}", at, len(text))


class _Parser:
    """A recursive descent parser over the tokens of one expression."""

    def __init__(self, text: str, now: datetime) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._now = now
        self._depth = 0

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _take(self) -> _Token:
        token = self._token
        self._next += 1
        return token

    def _is_operator(self, name: str) -> bool:
        """Returns whether the next token is AND, OR, NOT or IN, in any case."""
        return self._token.kind == "word" and self._token.text.upper() == name

    def parse_all(self) -> Expression:
        if self._token.kind == "end":
            return And(())
        expression = self._any_of()
        if self._token.kind != "end":
            raise _unexpected(self._token.at, "AND, OR or the end", self._token.text)
        return expression

    def parse_terms(self) -> list[Term]:
        """Returns the terms of a valid expression."""
        if self._token.kind == "end":
            return []
        terms = [Term(self._text[start:end].strip(), part) for start, end, part in self._operands()]
        if self._token.kind == "end":
            return terms
        return [Term(f"({self._text.strip()})", _Parser(self._text, self._now).parse_all())]

    def _any_of(self) -> Expression:
        parts = [self._all_of()]
        while self._is_operator("OR"):
            self._take()
            parts.append(self._all_of())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _all_of(self) -> Expression:
        parts = [part for _, _, part in self._operands()]
        _require_time(parts)
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _operands(self) -> Iterator[tuple[int, int, Expression]]:
        """Yields operands of AND with their start and their end."""
        while True:
            start = self._token.at
            part = self._operand()
            yield start, self._token.at, part
            if self._token.kind in ("end", ")") or self._is_operator("OR"):
                return
            if self._is_operator("AND"):
                self._take()

    def _operand(self) -> Expression:
        self._depth += 1
        if self._depth > _MAX_NESTING:
            raise ExpressionError(f"the expression is nested more than {_MAX_NESTING} levels deep")
        try:
            if self._is_operator("NOT"):
                self._take()
                return Not(self._operand())
            if self._token.kind == "(":
                return self._in_parentheses()
            return self._term()
        finally:
            self._depth -= 1

    def _in_parentheses(self) -> Expression:
        opened = self._take()
        expression = self._any_of()
        if self._token.kind != ")":
            what = f"the ')' of column {opened.at + 1}"
            raise _unexpected(self._token.at, what, self._token.text)
        self._take()
        return expression

    def _term(self) -> Expression:
        token = self._take()
        if token.kind == "quoted":
            return Text(_unescaped(token.text))
        if token.kind != "word" or token.text.upper() in ("AND", "OR", "IN"):
            raise _unexpected(token.at, "a field, a text or '('", token.text)
        if self._token.kind == "operator":
            return self._comparison(token)
        if self._is_operator("IN") and _path(token.text) is not None:
            return self._one_of(token)
        timed = self._time_words(token)
        return timed if timed is not None else Text(_unescaped(token.text))

    def _comparison(self, name: _Token) -> Expression:
        operator = self._take().text
        value = self._value()
        if name.text == _PART:
            if operator != ":":
                raise _unexpected(name.at, f"{_PART}: and a part of a word", name.text + operator)
            return Text(_unescaped(value.text), is_part=True)
        if name.text == _OPENS:
            if operator != ":" or not _is_port(value.text):
                raise _unexpected(value.at, f"{_OPENS}: and a port up to {_MAX_PORT}", value.text)
            return Opens(int(value.text))
        if name.text == "is":
            if operator not in (":", "=") or value.text not in _STATES:
                raise _unexpected(value.at, f"is:{' or is:'.join(_STATES)}", value.text)
            return Is(value.text)
        return self._compare(name, operator, value)

    def _compare(self, name: _Token, operator: str, value: _Token) -> Expression:
        path = _path(name.text)
        if path is None:
            raise _unexpected(name.at, f"a field such as {_likely_fields(name.text)}", name.text)
        members, is_field = path
        text = value.text
        if operator == ":" or operator not in ("=", "!="):
            text = _unescaped(text)
        if members == ("event_time",):
            return self._time_comparison(operator, value)
        if is_field and operator in ("=", "!="):
            text = _checked(members[0], value)
        if operator in ("=", "!="):
            try:
                Pattern.parse(text)
            except UsageError as error:
                raise ExpressionError(f"column {value.at + 1}: {error}", value.at) from error
        return Compare(members, operator, text, is_field)

    def _time_comparison(self, operator: str, value: _Token) -> Expression:
        start, end = self._moment(value)
        if operator in ("=", ":"):
            return Between(start, end)
        meanings: dict[str, Expression] = {
            "!=": Not(Between(start, end)),
            "<": Between(None, start),
            "<=": Between(None, end),
            ">": Between(end, None),
            ">=": Between(start, None),
        }
        return meanings[operator]

    def _one_of(self, name: _Token) -> Expression:
        self._take()
        if self._token.kind != "(":
            raise _unexpected(self._token.at, "'(' and values", self._token.text)
        self._take()
        parts = [self._compare(name, "=", self._value())]
        while self._token.kind == ",":
            self._take()
            parts.append(self._compare(name, "=", self._value()))
        if self._token.kind != ")":
            raise _unexpected(self._token.at, "',' or ')'", self._token.text)
        self._take()
        return Or(tuple(parts))

    def _value(self) -> _Token:
        token = self._take()
        if token.kind not in ("word", "quoted"):
            self._next -= 1
            raise _unexpected(token.at, "a value", token.text)
        return token

    def _time_words(self, token: _Token) -> Expression | None:
        if token.text == "last":
            return self._last()
        if token.text in ("since", "until") and self._token.kind in ("word", "quoted"):
            start, end = self._moment(self._take())
            return Between(start, None) if token.text == "since" else Between(None, end)
        first, dots, last = token.text.partition("..")
        if dots and _DAY.match(first or last):
            at = token.at + len(first) + 2
            begins = self._moment(_Token("word", first, token.at))[0] if first else None
            ends = self._moment(_Token("word", last, at))[1] if last else None
            return Between(begins, ends)
        return None

    def _last(self) -> Expression:
        token = self._take()
        span = parse_span(token.text)
        if span is None:
            raise _unexpected(token.at, "a span such as 30m, 2h or 7d", token.text)
        try:
            return Between(self._now - span, None)
        except OverflowError as error:
            raise _unexpected(token.at, "a span that fits the calendar", token.text) from error

    def _moment(self, token: _Token) -> tuple[datetime, datetime]:
        """Returns the start and the end of the period that a time denotes."""
        try:
            moment = parse_time(token.text)
            span = timedelta(days=1) if _DAY.fullmatch(token.text) else timedelta(seconds=1)
            return moment, moment + span
        except (ValueError, OverflowError) as error:
            what = "a time such as 2020-01-01 or 2020-01-01T09:00:00Z"
            raise _unexpected(token.at, what, token.text) from error


def _checked(field: str, value: _Token) -> str:
    """Returns the value of a whole comparison, if an event can have it.

    Raises:
        ExpressionError: no event can have it.
    """
    text = value.text
    if field == "read_only" and not _has_wildcard(text):
        if text.lower() not in ("true", "false"):
            raise _unexpected(value.at, "true or false", text)
        return text.lower()
    if field == "account" and text.isdigit() and len(text) != _ACCOUNT_DIGITS:
        raise _unexpected(value.at, f"an account of {_ACCOUNT_DIGITS} digits", text)
    if field == "source_ip" and _LIKE_ADDRESS.fullmatch(text) and not _is_address(text):
        what = "an address such as 203.0.113.64 or a network such as 10.0.0.0/8"
        raise _unexpected(value.at, what, text)
    return text


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 6 and int(text) <= _MAX_PORT


def _has_wildcard(text: str) -> bool:
    return "*" in text or "?" in text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def _require_time(parts: list[Expression]) -> None:
    """Raises `ExpressionError` if the periods of some terms have no time in common."""
    periods = [part for part in parts if isinstance(part, Between)]
    start = max((part.start for part in periods if part.start is not None), default=None)
    end = min((part.end for part in periods if part.end is not None), default=None)
    if start is not None and end is not None and start >= end:
        begins, ends = (f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (start, end))
        raise ExpressionError(f"no time is both since {begins} and before {ends}")


def _likely_fields(name: str) -> str:
    """Returns known fields with a similar name."""
    likely = get_close_matches(name.partition(".")[0], [*FIELDS, *MEMBERS], cutoff=0.5)
    return ", ".join(likely or ("eventName", "user", "requestParameters.bucketName"))


def _path(name: str) -> tuple[tuple[str, ...], bool] | None:
    """Returns the field or record path of a name; None if unknown."""
    field = FIELDS.get(name.lower())
    if field is not None:
        return (field,), True
    members = tuple(_unescaped(part) for part in re.split(r"(?<!\\)\.", name))
    return (members, False) if members[0] in MEMBERS and all(members) else None


def _unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text, flags=re.DOTALL)
