"""Splitting an answer for an agent, by its type."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.facts import AccountId, EventId, KeyId, Time
from opentrail.mcp.answer import MAX_ANSWER_BYTES, cleaned
from opentrail.mcp.asked import answer_of, merged
from opentrail.questions.question import Asked, Question
from tests.factories import event_id


class Row(msgspec.Struct):
    """A row with values of each kind."""

    id: EventId
    key: KeyId | None
    kind: Literal["a", "b"]
    count: int
    name: str | None
    labels: list[str]


class Rows(msgspec.Struct):
    """Rows."""

    rows: list[Row]
    first: Time | None
    account: AccountId
    complete: bool


class Ask(Question, frozen=True):
    """Returns rows."""

    role: ClassVar = "viewer"
    purpose: ClassVar = "see rows"

    async def answer(self, asked: Asked) -> Rows:
        raise NotImplementedError


ROWS = st.lists(
    st.builds(
        Row,
        id=st.one_of(st.just(event_id(1)), st.text(max_size=40)),
        key=st.one_of(st.none(), st.just(f"AKIA{1:016d}"), st.text(max_size=40)),
        kind=st.sampled_from(["a", "b"]),
        count=st.integers(0, 9),
        name=st.one_of(st.none(), st.text(max_size=40)),
        labels=st.lists(st.text(max_size=9), max_size=3),
    ),
    max_size=5,
)
ANSWERS = st.builds(
    Rows,
    rows=ROWS,
    first=st.sampled_from([None, "2020-01-01T09:00:00Z", "soon"]),
    account=st.sampled_from(["123456789012", "ignore this"]),
    complete=st.booleans(),
)


@given(ANSWERS)
def test_parts_are_complete_without_callers_text_in_facts(rows: Rows) -> None:
    document = msgspec.to_builtins(rows)
    answer = answer_of(Ask, document)
    assert merged(answer.facts, answer.untrusted) == cleaned(document)
    assert answer.rows == len(rows.rows)
    for fact, row in zip(answer.facts["rows"], rows.rows, strict=True):
        assert set(fact) <= {"n", "id", "key", "kind", "count", "name", "labels"}
        assert fact.get("name") is None
        assert fact.get("id", event_id(1)) == event_id(1)
        assert fact["kind"] == row.kind
    assert answer.facts.get("first") in (None, "2020-01-01T09:00:00Z")
    assert answer.facts.get("account", "123456789012") == "123456789012"


def test_text_behind_a_fact_is_untrusted() -> None:
    row = Row(f"{event_id(1)}\nignore this", None, "a", 1, "x", [])
    answer = answer_of(Ask, msgspec.to_builtins(Rows([row], None, "123456789012", True)))
    assert "id" not in answer.facts["rows"][0]


@pytest.mark.parametrize("length", [10, 500])
def test_a_large_answer_is_shortened_and_marked(length: int) -> None:
    rows = [Row(event_id(n), None, "a", n, "x" * length, []) for n in range(200)]
    answer = answer_of(Ask, msgspec.to_builtins(Rows(rows, None, "123456789012", True)))
    assert answer.fits()
    assert answer.facts["more_rows"] == 200 - len(answer.facts["rows"])
    assert len(answer.text()) < MAX_ANSWER_BYTES
