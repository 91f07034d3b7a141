"""Actions of policies that a principal never used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypedDict

from msgspec import Meta

from opentrail.questions.policies import (
    CallBasis,
    PrincipalName,
    invalid_policies,
    parsed,
    read_calls,
)
from opentrail.questions.question import Asked, Question, Since

#: Maximum actions in an answer, enough for a few patterns such as `*`.
_MAX_ACTIONS = 100_000


class PatternUsage(TypedDict):
    """The used and unused actions of a pattern."""

    #: The number of its statement in its policy.
    statement: int
    pattern: str
    used: list[str]
    #: None if not all events were read.
    unused: list[str] | None


class UnusedActions(CallBasis):
    """The actions of policies that a principal used and never used."""

    patterns: list[PatternUsage]


class ListUnusedActions(Question, frozen=True, kw_only=True):
    """Returns the allowed actions of policies that a principal used and never used."""

    role: ClassVar = "auditor"
    purpose: ClassVar = "list the actions of policies that a principal never used"
    path: ClassVar = "/policy/unused"
    body: ClassVar = (
        '{"principal": "John", "policies": [{"Version": "2012-10-17", "Statement": []}]}'
    )
    is_large: ClassVar = True
    is_followed: ClassVar = True
    defaults: ClassVar = {"since": "90d"}

    principal: PrincipalName
    policies: Annotated[list[dict[str, Any]], Meta(description="policy documents")]
    since: Since | None = None

    async def answer(self, asked: Asked) -> UnusedActions:
        """Compares the policies with the permissions that each allowed call needed."""
        from opentrail.history.threads import in_thread
        from opentrail.permissions.needs import permissions_of
        from opentrail.permissions.outcomes import CallOutcome, outcome_of

        parsed(self.policies)
        listed = await in_thread(self._listed)
        used: set[str] = set()

        def add(records: Iterator[Mapping[str, Any]]) -> bool:
            for record in records:
                if outcome_of(record) is CallOutcome.ALLOWED:
                    used.update(each.action.lower() for each in permissions_of(record))
            return True

        basis = await read_calls(asked, self.principal, self.since, add)
        return {**basis, "patterns": [_usage(each, used, basis["complete"]) for each in listed]}

    def _listed(self) -> list[tuple[int, str, list[str]]]:
        """Returns the patterns of all statements, each with the actions that it matches."""
        listed, count = [], 0
        for statement, pattern in self._patterns():
            actions = _actions_of(pattern)
            if (count := count + len(actions)) > _MAX_ACTIONS:
                raise invalid_policies(f"must match at most {_MAX_ACTIONS:,} actions together")
            listed.append((statement, pattern, actions))
        return listed

    def _patterns(self) -> Iterator[tuple[int, str]]:
        """Yields the number of each Allow statement with each of its action patterns."""
        for document in self.policies:
            statements = document["Statement"]
            listed = statements if isinstance(statements, list) else [statements]
            for number, statement in enumerate(listed, 1):
                patterns = statement.get("Action", [])
                if statement["Effect"] == "Allow":
                    for pattern in [patterns] if isinstance(patterns, str) else patterns:
                        yield number, pattern


def _usage(listed: tuple[int, str, list[str]], used: set[str], complete: bool) -> PatternUsage:
    statement, pattern, actions = listed
    unused = [action for action in actions if action.lower() not in used]
    return {
        "statement": statement,
        "pattern": pattern,
        "used": [action for action in actions if action.lower() in used],
        "unused": unused if complete else None,
    }


def _actions_of(pattern: str) -> list[str]:
    from opentrail.permissions.authorization import matching

    # IAM's data may not include the action.
    return matching(pattern) or ([] if re.search(r"[*?]", pattern) else [pattern])
