"""A policy that allows the recorded calls of a principal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NotRequired, TypedDict, cast

from msgspec import Meta

from opentrail.core.facts import Whole
from opentrail.questions.policies import CallBasis, PrincipalName, read_calls
from opentrail.questions.question import Asked, Question, Since

if TYPE_CHECKING:
    from opentrail.permissions.generate import CallKind

#: Maximum kinds of calls in memory, at about a kilobyte each.
_MAX_CALL_KINDS = 100_000


class CallsByOutcome(TypedDict):
    """Numbers of calls, without zeros."""

    allowed: NotRequired[int]
    denied: NotRequired[int]
    #: Calls that failed for another reason than missing permission.
    failed: NotRequired[int]


class PolicyOfCalls(CallBasis):
    """A policy that allows the recorded calls of a principal, and its uncertainties."""

    #: Several if one would be too long for a managed policy.
    policies: list[Annotated[dict[str, Any], Whole]]
    calls: CallsByOutcome
    #: Allowed calls that the policy would or might refuse, not counting `unverified` and `unmapped`
    #: permissions; None if not all events were read.
    refusedByIt: int | None
    #: Actions missing from the policy, because AWS's authorization data does not have them → calls.
    unverified: dict[str, int]
    #: Actions allowed on every resource, since the records name no resource → calls.
    unlimited: dict[str, int]
    #: Events whose records do not show all permissions that they needed → calls.
    unmapped: dict[str, int]


class PolicyFor(Question, frozen=True, kw_only=True):
    """Returns a policy that allows the recorded calls of a principal, and little more.

    Review its uncertainties: `unlimited`, `unverified` and `unmapped`; `refusedByIt` must be 0.
    """

    role: ClassVar = "auditor"
    purpose: ClassVar = "generate a policy from the calls of a principal"
    path: ClassVar = "/policy"
    is_large: ClassVar = True
    is_followed: ClassVar = True
    defaults: ClassVar = {"since": "90d"}

    principal: PrincipalName
    resources: Annotated[
        Literal["exact", "prefix", "any"],
        Meta(description="resources of the calls; also their common prefixes; or all resources"),
    ] = "prefix"
    since: Since | None = None
    withFailed: Annotated[
        bool, Meta(description="include permissions of calls that failed for another reason")
    ] = False

    async def answer(self, asked: Asked) -> PolicyOfCalls:
        """Reads all calls, and evaluates the policy for each of them."""
        from opentrail.history.threads import in_thread
        from opentrail.permissions.generate import generate, kinds_of
        from opentrail.permissions.replay import refused_by

        calls: Counter[CallKind] = Counter()

        def add(records: Iterator[Mapping[str, Any]]) -> bool:
            calls.update(kinds_of(records))
            return len(calls) < _MAX_CALL_KINDS

        def make() -> dict[str, Any]:
            made = generate(calls, self.resources, self.withFailed)
            refused = refused_by(made, calls) if basis["complete"] else None
            return {**made.document(), "refusedByIt": refused}

        basis = await read_calls(asked, self.principal, self.since, add)
        return cast(PolicyOfCalls, {**basis, **await in_thread(make)})
