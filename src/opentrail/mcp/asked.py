"""The questions of `opentrail.questions` as tools, and the two parts of their answers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    Union,
    get_args,
    get_origin,
    get_type_hints,
    is_typeddict,
)

import msgspec

from opentrail.core.facts import FACT
from opentrail.mcp.answer import Answer, Json, cleaned, first_that_fits
from opentrail.questions.question import Question, answer_type

#: Maximum objects in a list of an answer; fewer if it is too large.
_MAX_ROWS = (50, 20, 10, 5, 2, 1, 0)


def answer_of(question: type[Question], answer: Mapping[str, Any]) -> Answer:
    """Returns a question's answer for an agent: facts, and apart from them callers' text.

    The type of the answer decides: numbers, choices, and strings whose `Meta` has the form of a
    fact, if they have that form. An object of a list has its number in both parts.

    Args:
        question: what was asked.
        answer: the document that the JSON API has answered.
    """
    shape = answer_type(question)
    rows = max((len(value) for value in answer.values() if isinstance(value, list)), default=1)

    def candidates() -> Iterator[Answer]:
        for most in _MAX_ROWS:
            shorter = {name: _first(value, most) for name, value in answer.items()}
            facts, untrusted = _split(shape, shorter)
            left_out = {
                f"more_{name}": len(value) - most
                for name, value in answer.items()
                if isinstance(value, list) and len(value) > most
            }
            yield Answer({**(facts or {}), **left_out}, untrusted or {}, min(rows, most))

    return first_that_fits(candidates())


def merged(facts: Any, untrusted: Any) -> Any:
    """Returns both parts of an answer as one document, as the JSON API has it but for long text."""
    if isinstance(facts, dict) and isinstance(untrusted, dict):
        parts = {name: merged(facts.get(name), untrusted.get(name)) for name in untrusted}
        return {name: value for name, value in {**facts, **parts}.items() if name != "n"}
    if isinstance(facts, list) and isinstance(untrusted, list):
        return [merged(*parts) for parts in zip(facts, untrusted, strict=True)]
    return facts if untrusted is None else untrusted


def _first(value: Any, most: int) -> Any:
    return value[:most] if isinstance(value, list) else value


def _split(shape: Any, value: Any) -> tuple[Any, Any]:
    """Returns the part of a value that is a fact, and the part that a caller may have written.

    None: that part is empty.
    """
    shape, metas = _plain(shape)
    if members := _members(shape):
        return _split_object(members, value) if isinstance(value, dict) else (None, cleaned(value))
    if get_origin(shape) is list and isinstance(value, list):
        return _split_list(get_args(shape)[0], value)
    if get_origin(shape) is Literal or isinstance(value, bool | int | float) or value is None:
        return value, None
    forms = [form for meta in metas if (form := (meta.extra or {}).get(FACT))]
    is_fact = isinstance(value, str) and any(re.fullmatch(form, value) for form in forms)
    return (value, None) if is_fact else (None, cleaned(value))


def _split_object(members: Mapping[str, Any], value: Json) -> tuple[Json, Json]:
    parts = {name: _split(members.get(name, Any), each) for name, each in value.items()}
    facts = {name: fact for name, (fact, text) in parts.items() if fact is not None or text is None}
    return facts, {name: text for name, (_, text) in parts.items() if text is not None}


def _split_list(shape: Any, value: list[Any]) -> tuple[Any, Any]:
    parts = [_split(shape, each) for each in value]
    if not _members(_plain(shape)[0]):
        texts = [text for _, text in parts]
        facts = [fact for fact, _ in parts]
        return (facts, None) if all(text is None for text in texts) else (None, cleaned(value))
    numbers = range(1, len(parts) + 1)
    return (
        [{"n": n, **(fact or {})} for n, (fact, _) in zip(numbers, parts, strict=True)],
        [{"n": n, **(text or {})} for n, (_, text) in zip(numbers, parts, strict=True)],
    )


def _plain(shape: Any) -> tuple[Any, list[msgspec.Meta]]:
    """Returns a type without None and its annotations, and these."""
    metas: list[msgspec.Meta] = []
    while True:
        if get_origin(shape) is Annotated:
            metas += [each for each in shape.__metadata__ if isinstance(each, msgspec.Meta)]
            shape = shape.__origin__
        elif get_origin(shape) in (Union, UnionType):
            others = [each for each in get_args(shape) if each is not type(None)]
            if len(others) != 1:
                return Any, metas
            (shape,) = others
        else:
            return shape, metas


def _members(shape: Any) -> Mapping[str, Any]:
    """Returns the types of an object's members; empty if it is none."""
    is_struct = isinstance(shape, type) and issubclass(shape, msgspec.Struct)
    if is_struct or is_typeddict(shape):
        return get_type_hints(shape, include_extras=True)
    return {}
