"""Search expressions: one language for command line, console and API.

    eventName=Create* AND NOT user=admin last 2h
    requestParameters.bucketName=logs (is:failure OR sourceIPAddress=10.0.0.0/8)

A comparison has a field, an operator and a value; two terms beside each other must both hold.
`=` and `!=` compare whole values, with `*` and `?` as wildcards and a network where an address is
meant; `:` looks for a part of a value, in any case; `<`, `<=`, `>`, `>=` compare numbers and times,
else texts; `IN (a, b)` offers several values. A word alone is looked for in all values.
`is:success`, `is:failure`, `is:read` and `is:write` tell of the outcome and the kind. `last 2h`,
`since T`, `until T` and `T..T` narrow the time; a day alone is a whole day.
"""

from opentrail.core.expression.parser import ExpressionError, parse
from opentrail.core.expression.tree import (
    And,
    Between,
    Compare,
    Expression,
    Is,
    Not,
    Or,
    Pattern,
    Text,
    fields_in,
    holds,
)

__all__ = [
    "And",
    "Between",
    "Compare",
    "Expression",
    "ExpressionError",
    "Is",
    "Not",
    "Or",
    "Pattern",
    "Text",
    "fields_in",
    "holds",
    "parse",
]
