"""Asks our predicates and the naive evaluator about the same events, and counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from opentrail.core.event_record import EventFields, EventRecord
from opentrail.core.selectors import Predicate, SelectorOwner, predicate_of, read_selection
from tests.core.selectors import naive
from tests.core.selectors.generated import Asked, Generator, conditions
from tests.factories import record_bytes

#: Minimum matches and refusals of each field and operator, and minimum pairs in total.
ENOUGH, PAIRS = 500, 100_000
#: A selection of one category need not be asked about every event of another.
_OF_OTHERS = 25
_TRIES = 200


@dataclass
class Agreement:
    """The number of questions, and the count of each positive answer."""

    pairs: int = 0
    matches: Counter[str] = field(default_factory=Counter)
    refusals: Counter[str] = field(default_factory=Counter)


class Judges:
    """Both evaluators over one set of records."""

    def __init__(self, records: Sequence[Mapping[str, Any]]) -> None:
        self._records: dict[str, list[tuple[Mapping[str, Any], EventFields]]] = {}
        for record in records:
            category = naive.category_of(record)
            fields = EventRecord(record_bytes(record)).fields
            self._records.setdefault(category, []).append((record, fields))
        self.found = Agreement()

    def ask(self, asked: Asked) -> None:
        """Compares both on the events that a selection may match, and on some others."""
        predicate = compiled(asked)
        base = asked.base if asked.condition else None
        for category, records in self._records.items():
            decided = predicate.decides(category)
            for record, fields in records if decided is not False else records[:_OF_OTHERS]:
                expected = naive.takes(asked.document, record)
                assert predicate.matches(category, fields) is expected, (asked.document, record)
                assert decided in (None, expected)
                self.found.pairs += 1
                if base is not None and naive.takes(base, record):
                    counter = self.found.matches if expected else self.found.refusals
                    counter[asked.condition] += 1

    def enough(self, condition: str) -> bool:
        """Whether a condition has decided often enough, both ways."""
        return min(self.found.matches[condition], self.found.refusals[condition]) >= ENOUGH


def compiled(asked: Asked) -> Predicate:
    """Returns our predicate of a selection, which must be valid for AWS."""
    taker = SelectorOwner.EVENT_DATA_STORE if asked.store else SelectorOwner.TRAIL
    return predicate_of(read_selection(asked.document, taker))


def judge(records: Sequence[Mapping[str, Any]]) -> Agreement:
    """Asks about every field and operator until it has decided often, and about mixtures."""
    judges, generator = Judges(records), Generator(records)
    for category, name, operator in conditions():
        condition = f"{category} {name} {operator}"
        asked: list[Any] = []
        for _ in range(_TRIES):
            if judges.enough(condition):
                break
            one = generator.single(category, name, operator)
            if one.document not in asked:
                asked.append(one.document)
                judges.ask(one)
        assert judges.enough(condition), (
            f"{condition}: {judges.found.matches[condition]} matches, "
            f"{judges.found.refusals[condition]} refusals"
        )
    for _ in range(60):
        judges.ask(generator.mixed())
        judges.ask(generator.basic())
        judges.ask(generator.trails_management())
    assert judges.found.pairs >= PAIRS
    return judges.found
