r"""Search expressions: one language for command line, console and API.

    eventName=Create* AND NOT user=admin last 2h
    requestParameters.bucketName=logs (is:failure OR sourceIPAddress=10.0.0.0/8)

A comparison has a field, an operator and a value; two adjacent terms must both match.
`=` and `!=` compare whole values, with `*` and `?` as wildcards, and networks for addresses; `:`
finds a part of a value, ignoring case; `<`, `<=`, `>`, `>=` compare numbers and times, and other
values as strings; `IN (a, b)` lists alternatives. A single word is searched for in all values as a
whole word, `text:x` as a part of one. A backslash before a dot or colon makes it part of a member's
name: `requestParameters.tags.aws\:team=x`.
`is:success`, `is:failure`, `is:read` and `is:write` test the outcome and the kind; `opens:22` finds
calls that let traffic in to a port. `last 2h`,
`since T`, `until T` and `T..T` limit the time; a date without a time is a whole day.
"""

from opentrail.core.expression.parser import ExpressionError, Term, parse, terms_of
from opentrail.core.expression.tree import (
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
    conditions_in,
    fields_in,
    holds,
    literal,
)

__all__ = [
    "And",
    "Between",
    "Compare",
    "Expression",
    "ExpressionError",
    "Is",
    "Not",
    "Opens",
    "Or",
    "Pattern",
    "Term",
    "Text",
    "conditions_in",
    "fields_in",
    "holds",
    "literal",
    "parse",
    "terms_of",
]
