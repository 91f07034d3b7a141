"""Which actions of policies a principal never used."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypedDict

from msgspec import Meta

from opentrail.questions.policy_for import CallBasis, PrincipalName, read_calls
from opentrail.questions.question import Asked, Question, Since
from opentrail.questions.test_policy import invalid_policies, parsed

#: Maximum actions in an answer: those of a few patterns such as `*`.
_MAX_ACTIONS = 100_000


class PatternUsage(TypedDict):
    """Which actions of a pattern were used."""

    #: The number of its statement in its policy.
    statement: int
    pattern: str
    used: list[str]
    unused: list[str]


class UnusedActions(CallBasis):
    """Which actions of policies a principal used and never used."""

    patterns: list[PatternUsage]


class ListUnusedActions(Question, frozen=True, kw_only=True):
    """Returns which actions that policies allow a principal used, and which it never used."""

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
        """Compares the policies with what each allowed call needed."""
        from opentrail.history.threads import in_thread
        from opentrail.permissions.needs import permissions_of
        from opentrail.permissions.outcomes import CallOutcome, outcome_of

        parsed(self.policies)
        used: set[str] = set()

        def add(records: Iterator[Mapping[str, Any]]) -> bool:
            for record in records:
                if outcome_of(record) is CallOutcome.ALLOWED:
                    used.update(each.action.lower() for each in permissions_of(record))
            return True

        basis = await read_calls(asked, self.principal, self.since, add)
        return {**basis, "patterns": await in_thread(self._usages, used)}

    def _usages(self, used: set[str]) -> list[PatternUsage]:
        usages, count = [], 0
        for statement, pattern in self._patterns():
            actions = _actions_of(pattern)
            if (count := count + len(actions)) > _MAX_ACTIONS:
                raise invalid_policies(f"must match at most {_MAX_ACTIONS:,} actions together")
            usage: PatternUsage = {
                "statement": statement,
                "pattern": pattern,
                "used": [action for action in actions if action.lower() in used],
                "unused": [action for action in actions if action.lower() not in used],
            }
            usages.append(usage)
        return usages

    def _patterns(self) -> Iterator[tuple[int, str]]:
        """Yields the number of each statement that allows, with each of its patterns of actions."""
        for document in self.policies:
            statements = document["Statement"]
            listed = statements if isinstance(statements, list) else [statements]
            for number, statement in enumerate(listed, 1):
                patterns = statement.get("Action", [])
                if statement["Effect"] == "Allow":
                    for pattern in [patterns] if isinstance(patterns, str) else patterns:
                        yield number, pattern


def _actions_of(pattern: str) -> list[str]:
    from opentrail.permissions.authorization import matching

    # The data about IAM may not have an action.
    return matching(pattern) or ([] if re.search(r"[*?]", pattern) else [pattern])
