"""What policies would have decided about past calls of a principal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar, TypedDict, cast

from msgspec import Meta

from opentrail.core.facts import Action, EventId, Time
from opentrail.questions.policies import CallBasis, PrincipalName, parsed, read_calls
from opentrail.questions.question import Asked, Question, Since


class CallsByDecision(TypedDict):
    """Numbers of calls by what policies would have decided."""

    allowed: int
    denied: int
    #: It depends on what the record does not say.
    unknown: int


class PolicyDifference(TypedDict):
    """Calls about which a policy and the records differ in the same way."""

    action: Action
    reason: str
    calls: int
    #: Of the newest call.
    resource: str
    eventId: EventId
    eventTime: Time


class PolicyTest(CallBasis):
    """What policies would have decided about past calls."""

    allowedCalls: CallsByDecision
    deniedCalls: CallsByDecision
    newlyDenied: list[PolicyDifference]
    newlyAllowed: list[PolicyDifference]
    unknown: list[PolicyDifference]


class ReplayPolicies(Question, frozen=True, kw_only=True):
    """Returns which past calls policies, and nothing else, would have refused or newly allowed."""

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
        """Lets the policies decide about all calls."""
        from opentrail.permissions.replay import PolicyReplay

        test = PolicyReplay(parsed(self.policies))

        def add(records: Iterator[Mapping[str, Any]]) -> bool:
            test.add(records)
            return True

        basis = await read_calls(asked, self.principal, self.since, add)
        return cast(PolicyTest, {**basis, **test.result().document()})
