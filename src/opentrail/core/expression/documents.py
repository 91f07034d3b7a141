"""Expressions as JSON values, for another process of the same server."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opentrail.core.expression.tree import And, Between, Compare, Expression, Is, Not, Or, Text


def to_document(expression: Expression) -> list[Any]:
    """Returns an expression as a list: its kind, then its parts."""
    match expression:
        case And(parts) | Or(parts):
            return [type(expression).__name__, *(to_document(part) for part in parts)]
        case Not(part):
            return ["Not", to_document(part)]
        case Compare(path, operator, value, is_field):
            return ["Compare", list(path), operator, value, is_field]
        case Text(text) | Is(text):
            return [type(expression).__name__, text]
        case Between(start, end):
            return ["Between", *(moment and moment.isoformat() for moment in (start, end))]


def from_document(document: list[Any]) -> Expression:
    """Returns the expression that a list describes; the inverse of `to_document`."""
    kind, *parts = document
    match kind:
        case "And":
            return And(tuple(from_document(part) for part in parts))
        case "Or":
            return Or(tuple(from_document(part) for part in parts))
        case "Not":
            return Not(from_document(parts[0]))
        case "Compare":
            path, operator, value, is_field = parts
            return Compare(tuple(path), operator, value, is_field)
        case "Text":
            return Text(parts[0])
        case "Is":
            return Is(parts[0])
        case "Between":
            start, end = (part and datetime.fromisoformat(part) for part in parts)
            return Between(start, end)
    raise ValueError(f"{kind!r} is no kind of expression")
