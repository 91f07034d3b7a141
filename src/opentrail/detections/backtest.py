"""What rules would have found in recorded events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import Any, NamedTuple

from opentrail.core.event import FOUND_DETAILS, Record, format_time, from_micros, parse_time
from opentrail.core.expression import literal
from opentrail.detections.correlations import Occurrence, Window, occurrences_of, principal_of
from opentrail.detections.matching import EVENT_NAME, EVENT_SOURCE, RuleIndex
from opentrail.detections.rules import DetectionRule, values_that

#: Maximum examples of a rule.
MAX_EXAMPLES = 5
#: Maximum events that the correlations of one test may count, about 200 bytes each.
MAX_COUNTED = 5_000_000
#: Maximum characters of an expression that narrows events.
_MAX_EXPRESSION = 8_000


class Example(NamedTuple):
    """A match: when, its last event, and who made that call."""

    time: int
    event_id: str
    principal: str | None
    event_name: str
    event_ids: tuple[str, ...] = ()


@dataclass(slots=True)
class Backtest:
    """What a rule would have found."""

    rule: DetectionRule
    matches: int = 0
    first: int = 0
    last: int = 0
    #: The newest ones.
    examples: list[Example] = field(default_factory=list)

    def add(self, example: Example) -> None:
        """Counts a match."""
        self.first = min(self.first or example.time, example.time)
        self.last = max(self.last, example.time)
        self.matches += 1
        self.examples = nlargest(MAX_EXAMPLES, [*self.examples, example])

    def document(self) -> dict[str, Any]:
        """Returns it as JSON has it."""
        return {
            "rule": self.rule.name,
            "title": self.rule.title,
            "level": self.rule.level,
            "matches": self.matches,
            "first": _time(self.first) if self.matches else None,
            "last": _time(self.last) if self.matches else None,
            "examples": [
                {
                    "eventTime": _time(example.time),
                    "eventName": example.event_name,
                    "principal": example.principal,
                    "eventIds": [*(example.event_ids or (example.event_id,))],
                }
                for example in self.examples
            ],
        }


def _time(seconds: int) -> str:
    return format_time(from_micros(seconds * 1_000_000))


def narrowing(rules: Sequence[DetectionRule]) -> str:
    """Returns a search expression that finds all events that any of the rules could match.

    It asks for names of events, or parts of them, or is empty if a rule asks for none or they are
    too many. What it finds is matched by the rules themselves, so that there is one meaning.
    """
    terms: set[str] = set()
    for rule in rules:
        for selection in rule.selections:
            for field_name in (EVENT_NAME, EVENT_SOURCE):
                values = values_that(selection.condition, field_name)
                if values is not None:
                    terms |= {_part_of(field_name, value) for value in values}
                    break
            else:
                return ""
    expression = " OR ".join(sorted(terms))
    return expression if len(expression) <= _MAX_EXPRESSION else ""


def _part_of(field_name: str, value: str) -> str:
    quoted = literal(value).replace('"', '\\"')
    return f'{field_name}:"{quoted}"'


def backtest(rules: Sequence[DetectionRule], records: Iterable[Record]) -> list[Backtest]:
    """Returns what each rule would have found in records, which may be in any order.

    Raises:
        UsageError: a regular expression is wrong.
        OverflowError: correlations have too many events.
    """
    outcomes = [Backtest(rule) for rule in rules]
    index = RuleIndex(
        ((number, part), selection.condition)
        for number, rule in enumerate(rules)
        for part, selection in enumerate(rule.selections)
    )
    counted: list[tuple[Occurrence, int, tuple[str, ...], str]] = []
    for position, record in enumerate(records):
        if record.get("eventCategory") in FOUND_DETAILS:
            continue
        for number, part in index.matching(record):
            time = int(parse_time(str(record["eventTime"])).timestamp())
            name = str(record.get(EVENT_NAME))
            correlation = rules[number].correlation
            if correlation is None:
                event_id = str(record.get("eventID"))
                outcomes[number].add(Example(time, event_id, principal_of(record), name))
                continue
            for group, occurrence in occurrences_of(correlation, part, record, time, -position):
                counted.append((occurrence, number, group, name))
            if len(counted) > MAX_COUNTED:
                raise OverflowError(f"correlations have more than {MAX_COUNTED:,} events")
    windows = [Window(rule.correlation) if rule.correlation else None for rule in rules]
    for occurrence, number, group, name in sorted(counted):
        window = windows[number]
        if window is not None and (found := window.add(group, occurrence)):
            ids = tuple(event.event_id for event in found)
            last = found[-1]
            outcomes[number].add(Example(last.time, last.event_id, last.principal, name, ids))
    return outcomes
