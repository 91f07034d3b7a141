"""Routes of the JSON API, each declared with its handler and the role that it needs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from opentrail.access.users import ConsoleRole
from opentrail.questions.question import Question, parameters

H = TypeVar("H", bound=Callable[..., Any])

PREFIX = "/api/v1"
VIEWER = ConsoleRole.VIEWER
AUDITOR = ConsoleRole.AUDITOR
OPERATOR = ConsoleRole.OPERATOR
ADMIN = ConsoleRole.ADMIN
#: Parameters of a search.
SEARCH = ("expression", "since", "until", "account", "region", "categories")
#: Query parameter → its description.
PARAMETERS = {
    "account": "an account id",
    "after": "the position after which the answer begins",
    "again": "`true`: these records may have been sent before",
    "buckets": "number of periods",
    "by": "the property that both share: `principal`, `resource`, `ip` or `key`",
    "categories": "`all` or `management` (default)",
    "cursor": "`next` of the previous page",
    "defaults": "default conditions; the answer counts the events that they hide",
    "event": "the id of an event",
    "expression": "a search expression",
    "field": "a field of events",
    "fields": "fields of events, with commas",
    "format": "`csv`, `json` or `ndjson`",
    "ids": "event IDs, with commas",
    "last": "number of earlier events to begin with",
    "limit": "maximum number of results",
    "name": "a name or ARN",
    "nearest": "`true`: a name that no event has matches names that differ in case only",
    "prefix": "prefix of the values or names",
    "region": "a Region",
    "since": "the earliest time, such as `2020-01-01T09:00:00Z`",
    "type": "a type of resource",
    "until": "the latest time, or for marks the last position",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One route, its requirements and its purpose."""

    method: str
    #: Below `PREFIX`.
    path: str
    #: The least role that the caller needs. None: any caller may use it, signed in or not.
    least: ConsoleRole | None
    purpose: str
    #: Names of the query parameters.
    query: tuple[str, ...]
    #: An example of the JSON object in the body; None: the handler reads the body, if any.
    body: str | None
    #: Whether the caller must be allowed to see all accounts.
    all_accounts: bool
    #: Whether it needs the server's token and no session is enough, because its effects are not
    #: recorded as a call, or outlive the user.
    token_only: bool = False
    #: Whether clients may follow its progress, see `answers.py`.
    is_followed: bool = False
    #: The question it answers, which describes the query parameters. None: `PARAMETERS` does.
    question: type[Question] | None = None

    def parameter_schemas(self) -> dict[str, dict[str, Any]]:
        """Returns the JSON schema of each query parameter, with its description."""
        if self.question is not None:
            described = parameters(self.question)
            return {name: described[name] for name in self.query}
        return {name: {"type": "string", "description": PARAMETERS[name]} for name in self.query}


def route(
    method: str,
    path: str,
    least: ConsoleRole | None,
    purpose: str,
    *,
    query: Iterable[str] = (),
    body: str | None = None,
    all_accounts: bool = False,
    token_only: bool = False,
    is_followed: bool = False,
    question: type[Question] | None = None,
) -> Callable[[H], H]:
    """Declares a method of a group as the handler of a route; takes the arguments of `Rule`.

    The handler gets the request, and the object in its body if there is an example of one. It
    returns a response, or a JSON document of its annotated shape.
    """

    def declare(handler: H) -> H:
        cast(Any, handler).rule = Rule(
            method,
            path,
            least,
            purpose,
            tuple(query),
            body,
            all_accounts or least is ADMIN,
            token_only,
            is_followed,
            question,
        )
        return handler

    return declare


def rules_in(group: object) -> Iterator[tuple[Rule, Callable[..., Any]]]:
    """Yields the routes of a group, or of its class, with their handlers."""
    for name, member in vars(group if isinstance(group, type) else type(group)).items():
        rule = getattr(member, "rule", None)
        if isinstance(rule, Rule):
            yield rule, getattr(group, name)


def most_specific_first(rule: Rule) -> tuple[list[tuple[bool, str]], str]:
    """Returns a key that sorts `/insights/status` before `/insights/{id}`."""
    return [(part.startswith("{"), part) for part in rule.path.split("/")], rule.method
