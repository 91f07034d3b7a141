"""A policy that allows what a principal was seen to do."""

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
    """Numbers of calls; there is no 0."""

    allowed: NotRequired[int]
    denied: NotRequired[int]
    #: For another reason than missing permission.
    failed: NotRequired[int]


class PolicyOfCalls(CallBasis):
    """A policy that allows what a principal was seen to do, and what it leaves open."""

    #: Several if one would be too long for a managed policy.
    policies: list[Annotated[dict[str, Any], Whole]]
    calls: CallsByOutcome
    #: Calls that were allowed and that the policy would refuse, or perhaps, besides what it leaves
    #: open; None if not all events were read.
    refusedByIt: int | None
    #: Actions that the policy lacks, as AWS's authorization data does → calls.
    unverified: dict[str, int]
    #: Actions on every resource, since the records name none → calls.
    unlimited: dict[str, int]
    #: Events whose records do not say what they needed, or not all of it → calls.
    unmapped: dict[str, int]


class PolicyFor(Question, frozen=True, kw_only=True):
    """Returns a policy that allows what a principal was seen to do, and little else.

    `unlimited`, `unverified` and `unmapped` say what it leaves open; `refusedByIt` must be 0.
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
        Meta(description="resources of the calls; also common prefixes of these; or all"),
    ] = "prefix"
    since: Since | None = None
    withFailed: Annotated[
        bool, Meta(description="include permissions of calls that failed for another reason")
    ] = False

    async def answer(self, asked: Asked) -> PolicyOfCalls:
        """Reads all calls, and lets the policy decide about each of them."""
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
