"""Shared by questions about policies: the calls of a principal, and the parsing of policies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any, TypedDict

from msgspec import Meta

from opentrail.core.errors import CloudTrailError, MalformedPolicy
from opentrail.core.facts import OwnWords
from opentrail.questions.question import Asked, Text

if TYPE_CHECKING:
    from opentrail.core.policies import Policy

PrincipalName = Annotated[Text, Meta(description="name or ARN of a user or role")]


class CallBasis(TypedDict):
    """The calls behind an answer."""

    principal: str
    events: int
    #: Whether all of the principal's events were read, not only the newest ones.
    complete: bool
    #: The events that were read, if not all; why there may be none.
    warning: OwnWords | None
    #: A description of each range missing from event history.
    missing: list[str]


async def read_calls(
    asked: Asked,
    principal: str,
    since: str | None,
    add: Callable[[Iterator[Mapping[str, Any]]], bool],
) -> CallBasis:
    """Reads the events of a principal, newest first, page by page.

    Args:
        asked: the features that answer the question.
        principal: a name or an ARN.
        since: the start time; None: the first event.
        add: processes the records of a page, in a thread; returns whether to continue.
    """
    from opentrail.core.expression.subjects import events_of
    from opentrail.history.written_searches import read_newest, search_in

    expression = events_of(principal, "principal")
    times = {"since": since} if since else {}
    search = search_in({"expression": expression, "categories": "all", **times}, asked.now)
    count, oldest = await read_newest(asked.history, search, add, asked.report)
    warning = oldest and (
        f"only the newest {count:,} events were read, back to {oldest}: earlier calls may "
        "have needed more; ask for a shorter time"
    )
    is_whole = warning is None
    if not count:
        warning = await _why_none(asked, principal, times)
    return {
        "principal": principal,
        "events": count,
        "complete": is_whole,
        "warning": warning,
        "missing": asked.missing,
    }


async def _why_none(asked: Asked, name: str, times: Mapping[str, str]) -> str:
    """Returns that a principal has no event, and whether its name is of another kind."""
    from opentrail.core.expression.subjects import KINDS, events_of
    from opentrail.history.written_searches import search_in

    for kind, words in KINDS.items():
        query = {"expression": events_of(name, kind), "categories": "all", **times}
        if kind != "principal" and await asked.history.latest(search_in(query, asked.now), 1):
            return f"no user or role of this name has made a call in this time; it names {words}"
    return "no user or role of this name has made a call in this time"


def parsed(policies: list[dict[str, Any]]) -> list[Policy]:
    """Parses policies.

    Raises:
        CloudTrailError: they are too large, or one is invalid.
    """
    from opentrail.core.policies import parse_policies
    from opentrail.permissions.generate import MAX_CHARACTERS, characters

    most = 10 * MAX_CHARACTERS  # as many as ten managed policies have
    try:
        if (size := sum(map(characters, policies))) > most:
            text = f"must have at most {most:,} characters together, not {size:,}"
            raise invalid_policies(text)
        return parse_policies(policies)
    except MalformedPolicy as error:
        raise invalid_policies(f"must be valid policy documents: {error}") from error
    except RecursionError as error:
        raise invalid_policies("are nested too deeply") from error


def invalid_policies(what: str) -> CloudTrailError:
    """Returns the error of refused policies."""
    return CloudTrailError("InvalidParameterException", f"policies {what}")
