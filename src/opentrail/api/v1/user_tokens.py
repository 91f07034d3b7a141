"""Personal tokens of users: listed, created, removed."""

from __future__ import annotations

from typing import TypedDict

from starlette.requests import Request

from opentrail.access.user_tokens import DEFAULT_DAYS, UserToken, UserTokens
from opentrail.api.v1.answers import Json, invalid_parameter, text_in
from opentrail.api.v1.own_events import OwnChanges
from opentrail.api.v1.routes import ADMIN, route
from opentrail.core.event import format_time


class PersonalToken(TypedDict):
    """A personal token, without its secret."""

    user: str
    name: str
    created: str
    expires: str


class PersonalTokenList(TypedDict):
    """The personal tokens, by user and name."""

    tokens: list[PersonalToken]


class NewPersonalToken(TypedDict):
    """A personal token, and its secret, which only this answer has."""

    token: PersonalToken
    secret: str


class UserTokenAdministration:
    """Manages the personal tokens of users."""

    def __init__(self, tokens: UserTokens, changes: OwnChanges) -> None:
        self._tokens = tokens
        self._changes = changes

    @route("GET", "/users/tokens", ADMIN, "list personal tokens")
    async def list(self, _request: Request) -> PersonalTokenList:
        """Returns the personal tokens, by user and name."""
        return {"tokens": [_document(token) for token in await self._tokens.all()]}

    @route(
        "POST",
        "/users/tokens",
        ADMIN,
        "create a personal token",
        body='{"user": "ann", "name": "laptop", "days": 90}',
    )
    async def create(self, request: Request, body: Json) -> NewPersonalToken:
        """Creates a personal token; only this answer has its secret."""
        days = body.get("days", DEFAULT_DAYS)
        if type(days) is not int:
            raise invalid_parameter(f"days must be a whole number, not {days!r}")
        user, name = text_in(body, "user"), text_in(body, "name")
        asked = {"user": user, "name": name, "days": days}
        await self._changes.record(request, "CreatePersonalToken", asked)
        token, secret = await self._tokens.add(user, name, days)
        return {"token": _document(token), "secret": secret}

    @route(
        "POST",
        "/users/tokens/remove",
        ADMIN,
        "remove a personal token",
        body='{"user": "ann", "name": "laptop"}',
    )
    async def remove(self, request: Request, body: Json) -> Json:
        """Removes a personal token, which is not valid from then on."""
        user, name = text_in(body, "user"), text_in(body, "name")
        await self._changes.record(request, "RemovePersonalToken", {"user": user, "name": name})
        await self._tokens.remove(user, name)
        return {}


def _document(token: UserToken) -> PersonalToken:
    return {
        "user": token.user,
        "name": token.name,
        "created": format_time(token.created),
        "expires": format_time(token.expires),
    }
