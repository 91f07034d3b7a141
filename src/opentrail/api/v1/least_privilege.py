"""Policies made of what principals did, and policies tested on past calls."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypedDict, cast

import orjson
from starlette.requests import Request

from opentrail.api.operation import Services
from opentrail.api.v1.answers import Json, invalid_parameter
from opentrail.api.v1.callers import seen_by
from opentrail.api.v1.conditions import search_in
from opentrail.api.v1.routes import AUDITOR, route
from opentrail.core.errors import MalformedPolicy
from opentrail.core.policies import Policy, PolicyKind, parse_policy
from opentrail.history.event_history import has_all
from opentrail.history.threads import in_thread
from opentrail.permissions.backtest import backtest, refused_by
from opentrail.permissions.generate import (
    ANY,
    EXACT,
    MAX_CHARACTERS,
    PREFIX,
    characters,
    generate,
    kinds_of,
)
from opentrail.ports.event_store import FoundEvent
from opentrail.who.subjects import events_of

#: Maximum events that an answer rests on.
_MAX_EVENTS = 5_000
#: Maximum characters of tested policies, as many as ten managed ones have.
_MAX_CHARACTERS = 10 * MAX_CHARACTERS
#: Maximum seconds of an answer.
_MAX_SECONDS = 10.0


class CallBasis(TypedDict):
    """The calls that an answer rests on."""

    principal: str
    events: int
    #: Whether these are all of its events, not only the newest ones.
    complete: bool
    #: A description of each range that event history lacks.
    missing: list[str]


class PolicyOfCalls(CallBasis):
    """A policy that allows what a principal was seen to do, and what it leaves open."""

    #: Several if one would be too long for a managed policy.
    policies: list[dict[str, Any]]
    #: Calls by outcome: `allowed`, `denied` or `failed`.
    calls: dict[str, int]
    #: Calls that were allowed and that the policy would refuse, or perhaps.
    refusedByIt: int
    #: Actions that the data about IAM does not have → calls.
    unverified: dict[str, int]
    #: Actions on every resource, since the records name none → calls.
    unlimited: dict[str, int]
    #: Events whose records do not say what they needed → calls.
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
    """The calls about the permissions that principals use; they rest on their newest events.

    Args:
        services: what operations use.
        missing: returns a description of each range that event history lacks.
    """

    def __init__(self, services: Services, missing: Callable[[], list[str]]) -> None:
        self._services = services
        self._missing = missing
        #: One at a time, since each holds thousands of events and takes much of a processor.
        self._turn = asyncio.Lock()

    @route(
        "GET",
        "/policy",
        AUDITOR,
        "make a policy of what a principal did",
        query=("principal", "resources", "since"),
    )
    async def policy(self, request: Request) -> PolicyOfCalls:
        """Returns a policy that allows what a principal was seen to do, and little else."""
        query = request.query_params
        resources = query.get("resources") or PREFIX
        if resources not in (EXACT, PREFIX, ANY):
            message = f"resources must be {EXACT}, {PREFIX} or {ANY}, not {resources!r}"
            raise invalid_parameter(message)

        def make(events: Sequence[FoundEvent]) -> Json:
            end = time.monotonic() + _MAX_SECONDS
            calls = kinds_of(_records(events, end))
            made = generate(calls, resources)
            refused = refused_by(made, calls)
            return {**made.document(), "refusedByIt": refused}

        async with self._turn:
            events, basis = await self._calls_of(request, query)
            return cast(PolicyOfCalls, {**basis, **await in_thread(make, events)})

    @route(
        "POST",
        "/policy/test",
        AUDITOR,
        "test policies on past calls of a principal",
        body='{"principal": "John", "policies": [{"Version": "2012-10-17", "Statement": []}]}',
    )
    async def test(self, request: Request, body: Json) -> PolicyTest:
        """Returns what policies would have decided about what a principal did."""
        policies = _policies_in(body)
        async with self._turn:
            events, basis = await self._calls_of(request, body)
            end = time.monotonic() + _MAX_SECONDS
            tested = await in_thread(backtest, _records(events, end), policies)
        return cast(PolicyTest, {**basis, **tested.document()})

    async def _calls_of(
        self, request: Request, asked: Mapping[str, Any]
    ) -> tuple[Sequence[FoundEvent], CallBasis]:
        """Returns the newest events of the principal that is asked about."""
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
        events = await history.latest(search, _MAX_EVENTS)
        return events, {
            "principal": principal,
            "events": len(events),
            "complete": has_all(events, _MAX_EVENTS),
            "missing": self._missing(),
        }


def _records(events: Sequence[FoundEvent], end: float) -> Iterator[Mapping[str, Any]]:
    """Yields the records of events; one at a time is parsed.

    Raises:
        TimeoutError: the time of the monotonic clock is after `end`.
    """
    for event in events:
        if time.monotonic() > end:
            raise TimeoutError
        yield orjson.loads(event.record)


def _policies_in(body: Json) -> list[Policy]:
    documents = body.get("policies")
    if not isinstance(documents, list) or not documents:
        raise invalid_parameter("policies must be a list of policy documents")
    try:
        if (size := sum(map(characters, documents))) > _MAX_CHARACTERS:
            message = (
                f"policies must have at most {_MAX_CHARACTERS:,} characters together, not {size:,}"
            )
            raise invalid_parameter(message)
        return [parse_policy(json.dumps(each), PolicyKind.IDENTITY) for each in documents]
    except MalformedPolicy as error:
        raise invalid_parameter(f"policies must be valid policy documents: {error}") from error
    except RecursionError as error:
        raise invalid_parameter("policies must not be nested so deeply") from error
