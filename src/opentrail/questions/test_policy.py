"""Decisions of policies about past calls of a principal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypedDict, cast

from msgspec import Meta

from opentrail.core.facts import Action, EventId, Time
from opentrail.questions.policies import CallBasis, PrincipalName, parsed, read_calls
from opentrail.questions.question import Asked, Question, Since


class CallsByDecision(TypedDict):
    """Numbers of calls by the policies' decision."""

    allowed: int
    denied: int
    #: Calls whose decision depends on facts that the record does not have.
    unknown: int


class PolicyDifference(TypedDict):
    """Calls for which a policy and the records differ in the same way."""

    action: Action
    reason: str
    calls: int
    #: From the newest call, as are `eventId` and `eventTime`.
    resource: str
    eventId: EventId
    eventTime: Time


class PolicyTest(CallBasis):
    """The policies' decisions about past calls."""

    allowedCalls: CallsByDecision
    deniedCalls: CallsByDecision
    newlyDenied: list[PolicyDifference]
    newlyAllowed: list[PolicyDifference]
    unknown: list[PolicyDifference]


class ReplayPolicies(Question, frozen=True, kw_only=True):
    """Returns the past calls that these policies alone would have refused or newly allowed."""

    role: ClassVar = "auditor"
    purpose: ClassVar = "test policies on past calls of a principal"
    path: ClassVar = "/policy/test"
    body: ClassVar = (
        '{"principal": "John", "policies": [{"Version": "2012-10-17", "Statement": []}]}'
    )
    is_large: ClassVar = True
    is_followed: ClassVar = True
    defaults: ClassVar = {"since": "90d"}

    principal: PrincipalName
    policies: Annotated[list[dict[str, Any]], Meta(description="policy documents")]
    since: Since | None = None

    async def answer(self, asked: Asked) -> PolicyTest:
        """Evaluates the policies for all calls."""
        from opentrail.permissions.replay import PolicyReplay

        test = PolicyReplay(parsed(self.policies))

        def add(records: Iterator[Mapping[str, Any]]) -> bool:
            test.add(records)
            return True

        basis = await read_calls(asked, self.principal, self.since, add)
        return cast(PolicyTest, {**basis, **test.result().document()})
