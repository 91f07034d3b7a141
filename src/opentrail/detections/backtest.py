"""Matches that rules would have had in recorded events."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from heapq import nlargest
from typing import NamedTuple

from opentrail.core.event import (
    OTHER_CATEGORIES,
    Json,
    Record,
    format_time,
    from_micros,
    parse_time,
)
from opentrail.core.expression import literal
from opentrail.detections.matching import (
    EVENT_NAME,
    EVENT_SOURCE,
    Occurrence,
    RuleIndex,
    Window,
    occurrences_of,
    principal_of,
)
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
    """The matches of a rule in past events."""

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

    def document(self) -> Json:
        """Returns the result in JSON's form."""
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

    It requires names of events, or parts of them; it is empty if a rule requires none or they are
    too many. The rules themselves match the events that it finds, so their meaning has one source.
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


class Replay:
    """Applies rules to records, which may arrive in any order, and in parts.

    Raises:
        UsageError: a regular expression is wrong.
    """

    def __init__(self, rules: Sequence[DetectionRule]) -> None:
        self._rules = rules
        self._outcomes = [Backtest(rule) for rule in rules]
        self._index = RuleIndex(
            ((number, part), selection.condition)
            for number, rule in enumerate(rules)
            for part, selection in enumerate(rule.selections)
        )
        #: Records that were read.
        self.events = 0
        self._counted: list[tuple[Occurrence, int, tuple[str, ...], str]] = []

    @property
    def counted(self) -> int:
        """The number of events that correlations hold in memory."""
        return len(self._counted)

    def add(self, records: Iterable[Record]) -> None:
        """Reads records.

        Raises:
            OverflowError: correlations have too many events.
        """
        for record in records:
            self.events += 1
            if record.get("eventCategory") in OTHER_CATEGORIES:
                continue
            for number, part in self._index.matching(record):
                self._match(number, part, record)
            if self.counted > MAX_COUNTED:
                raise OverflowError(f"correlations have more than {MAX_COUNTED:,} events")

    def _match(self, number: int, part: int, record: Record) -> None:
        time = int(parse_time(str(record["eventTime"])).timestamp())
        name = str(record.get(EVENT_NAME))
        correlation = self._rules[number].correlation
        if correlation is None:
            event_id = str(record.get("eventID"))
            self._outcomes[number].add(Example(time, event_id, principal_of(record), name))
            return
        position = -self.events  # newest first
        for group, occurrence in occurrences_of(correlation, part, record, time, position):
            self._counted.append((occurrence, number, group, name))

    def outcomes(self) -> list[Backtest]:
        """Returns the matches that each rule would have had in the records so far."""
        windows = [Window(rule.correlation) if rule.correlation else None for rule in self._rules]
        for occurrence, number, group, name in sorted(self._counted):
            window = windows[number]
            if window is not None and (found := window.add(group, occurrence)):
                ids = tuple(event.event_id for event in found)
                last = found[-1]
                example = Example(last.time, last.event_id, last.principal, name, ids)
                self._outcomes[number].add(example)
        self._counted.clear()
        return self._outcomes


def backtest(rules: Sequence[DetectionRule], records: Iterable[Record]) -> list[Backtest]:
    """Returns the matches that each rule would have had in records.

    Raises:
        UsageError: a regular expression is wrong.
        OverflowError: correlations have too many events.
    """
    replay = Replay(rules)
    replay.add(records)
    return replay.outcomes()
