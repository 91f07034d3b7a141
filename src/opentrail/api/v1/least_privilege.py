"""Policies made of what principals did, and policies tested on past calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypedDict, cast

from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import Json, invalid_parameter
from opentrail.api.v1.callers import seen_by
from opentrail.api.v1.past_records import read_newest
from opentrail.api.v1.routes import AUDITOR, route
from opentrail.core.errors import MalformedPolicy
from opentrail.core.policies import Policy, parse_policies
from opentrail.history.threads import in_thread
from opentrail.history.written_searches import search_in
from opentrail.permissions.generate import (
    ANY,
    EXACT,
    MAX_CHARACTERS,
    PREFIX,
    CallKind,
    characters,
    generate,
    kinds_of,
)
from opentrail.permissions.replay import PolicyReplay, refused_by
from opentrail.who.subjects import events_of

#: Maximum kinds of calls in memory, at about a kilobyte each.
_MAX_CALL_KINDS = 100_000
#: Maximum characters of tested policies, as many as ten managed ones have.
_MAX_CHARACTERS = 10 * MAX_CHARACTERS


class CallBasis(TypedDict):
    """The calls that an answer rests on."""

    principal: str
    events: int
    #: Whether these are all of its events, not only the newest ones.
    complete: bool
    #: What was read, if these are not all of its events.
    warning: str | None
    #: A description of each range that event history lacks.
    missing: list[str]


class PolicyOfCalls(CallBasis):
    """A policy that allows what a principal was seen to do, and what it leaves open."""

    #: Several if one would be too long for a managed policy.
    policies: list[dict[str, Any]]
    #: Calls by outcome: `allowed`, `denied` or `failed`.
    calls: dict[str, int]
    #: Calls that were allowed and that the policy would refuse, or perhaps, besides what it leaves
    #: open; None if not all events were read.
    refusedByIt: int | None
    #: Actions that the policy lacks, as AWS's authorization data does → calls.
    unverified: dict[str, int]
    #: Actions on every resource, since the records name none → calls.
    unlimited: dict[str, int]
    #: Events whose records do not say what they needed, or not all of it → calls.
    unmapped: dict[str, int]


class PolicyDifference(TypedDict):
    """Calls about which a policy and the records differ in the same way."""

    action: str
    reason: str
    calls: int
    #: Of the newest call.
    resource: str
    eventId: str
    eventTime: str


class PolicyTest(CallBasis):
    """What policies would have decided about past calls."""

    #: Calls that were allowed, by what would be decided: `allowed`, `denied` or `unknown`.
    allowedCalls: dict[str, int]
    deniedCalls: dict[str, int]
    newlyDenied: list[PolicyDifference]
    newlyAllowed: list[PolicyDifference]
    unknown: list[PolicyDifference]


class LeastPrivilege:
    """The calls about the permissions that principals use; they rest on all of their events.

    Args:
        services: what operations use.
        missing: returns a description of each range that event history lacks.
    """

    def __init__(self, services: Services, missing: Callable[[], list[str]]) -> None:
        self._services = services
        self._missing = missing
        #: One at a time, since each takes much of a processor.
        self._turn = asyncio.Lock()

    @route(
        "GET",
        "/policy",
        AUDITOR,
        "generate a policy from the calls of a principal",
        query=("principal", "resources", "since", "withFailed"),
        is_followed=True,
    )
    async def policy(self, request: Request) -> PolicyOfCalls:
        """Returns a policy that allows what a principal was seen to do, and little else.

        With `withFailed=true`, also the permissions of calls that failed for another reason.
        """
        query = request.query_params
        resources = query.get("resources") or PREFIX
        if resources not in (EXACT, PREFIX, ANY):
            message = f"resources must be {EXACT}, {PREFIX} or {ANY}, not {resources!r}"
            raise invalid_parameter(message)
        calls: Counter[CallKind] = Counter()

        def add(records: Iterator[Mapping[str, Any]]) -> bool:
            calls.update(kinds_of(records))
            return len(calls) < _MAX_CALL_KINDS

        def make(is_complete: bool) -> Json:
            made = generate(calls, resources, query.get("withFailed") == "true")
            refused = refused_by(made, calls) if is_complete else None
            return {**made.document(), "refusedByIt": refused}

        async with self._turn:
            basis = await self._read(request, query, add)
            return cast(PolicyOfCalls, {**basis, **await in_thread(make, basis["complete"])})

    @route(
        "POST",
        "/policy/test",
        AUDITOR,
        "test policies on past calls of a principal",
        body='{"principal": "John", "policies": [{"Version": "2012-10-17", "Statement": []}]}',
        is_followed=True,
    )
    async def test(self, request: Request, body: Json) -> PolicyTest:
        """Returns what policies would have decided about what a principal did."""
        test = PolicyReplay(_policies_in(body))

        def add(records: Iterator[Mapping[str, Any]]) -> bool:
            test.add(records)
            return True

        async with self._turn:
            basis = await self._read(request, body, add)
        return cast(PolicyTest, {**basis, **test.result().document()})

    async def _read(
        self,
        request: Request,
        asked: Mapping[str, Any],
        add: Callable[[Iterator[Mapping[str, Any]]], bool],
    ) -> CallBasis:
        """Reads the events of the principal that is asked about, newest first, page by page.

        Args:
            request: who asks.
            asked: `principal`, and `since`.
            add: takes the records of a page, in a thread; returns whether it takes more.
        """
        principal, since = asked.get("principal"), asked.get("since")
        if not isinstance(principal, str) or not principal:
            raise invalid_parameter("principal must be the name or ARN of a user or role")
        if since is not None and not isinstance(since, str):
            raise invalid_parameter("since must be a time such as 2020-01-01T09:00:00Z")
        expression = events_of(principal, "principal")
        times = {"since": since} if since else {}
        parameters = {"expression": expression, "categories": "all", **times}
        search = search_in(parameters, self._services.clock.now())
        history = seen_by(request, self._services).history
        count, oldest = await read_newest(request, history, search, add)
        warning = None
        if oldest is not None:
            warning = (
                f"only the newest {count:,} events were read, back to {oldest}: earlier calls may "
                "have needed more; ask for a shorter time"
            )
        return {
            "principal": principal,
            "events": count,
            "complete": warning is None,
            "warning": warning,
            "missing": self._missing(),
        }


def _policies_in(body: Json) -> list[Policy]:
    documents = body.get("policies")
    if not isinstance(documents, list):
        raise invalid_parameter("policies must be a list of policy documents")
    try:
        if (size := sum(map(characters, documents))) > _MAX_CHARACTERS:
            message = (
                f"policies must have at most {_MAX_CHARACTERS:,} characters together, not {size:,}"
            )
            raise invalid_parameter(message)
        return parse_policies(documents)
    except MalformedPolicy as error:
        raise invalid_parameter(f"policies must be valid policy documents: {error}") from error
    except RecursionError as error:
        raise invalid_parameter("policies are nested too deeply") from error
