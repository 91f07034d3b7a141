"""Signing in to the web console by OpenID Connect."""

from __future__ import annotations

import hmac
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypedDict

import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from opentrail.access.users import ConsoleRole, Tries
from opentrail.api.console.sessions import Guard, is_secure
from opentrail.api.console.sign_in import LoginRecords
from opentrail.api.pages import PLAIN_POLICY, page_of, text_of
from opentrail.api.v1.callers import ApiCaller, address_of
from opentrail.api.v1.routes import route
from opentrail.core.errors import (
    CloudTrailError,
    SignInRefused,
    StorageFailed,
    TooManyTries,
    Unsupported,
)
from opentrail.core.event import is_account
from opentrail.ports.clock import Clock
from opentrail.ports.services import BegunSignIn, IdentityProvider
from opentrail.ports.signer import Sealer

CALLBACK = "/console/oidc/callback"
_COOKIE = "ot-oidc"
_SECURE_COOKIE = "__Host-ot-oidc"
#: Maximum time that a user may take at the provider.
MAX_TIME = timedelta(minutes=10)
#: Context that seals the cookie of a sign-in.
_CONTEXT = "console sign-in"
#: Words with single spaces between them, so that names do not differ only in spaces.
_NAME = re.compile(r"[\w+=,.@-]+( [\w+=,.@-]+)*")
_MAX_NAME_LENGTH = 128
#: Means all accounts in a claim.
_ALL_ACCOUNTS = "*"
#: Claims that may name a user, in order of preference.
_NAMES = ("preferred_username", "email", "sub")
#: Claims that users may set themselves, and the claim by which the provider vouches for them
#: (OpenID Connect Core 1.0, section 5.1).
_VERIFIED_BY = {"email": "email_verified", "phone_number": "phone_number_verified"}


@dataclass(frozen=True, slots=True)
class OidcLogin:
    """The configuration of sign-in by an OpenID Connect provider.

    Args:
        provider: the provider.
        role_claim: the claim whose string, or list of strings, gives a role; with dots it may be
            a path into objects, such as `realm_access.roles`.
        roles: string in the claim → role; users with several strings get the greatest role.
        sealer: seals the cookie of a sign-in in progress, so that any server can finish it.
        accounts_claim: the claim, or path, whose string or list of strings gives account ids, or
            `*` for all accounts; None: users may see all accounts.
    """

    provider: IdentityProvider
    role_claim: str
    roles: Mapping[str, ConsoleRole]
    sealer: Sealer
    accounts_claim: str | None = None


class _Cookie(msgspec.Struct, frozen=True):
    """A sign-in in progress; the browser stores it, so it needs no memory of a server.

    The provider accepts each code only once, so a sign-in succeeds only once.
    """

    #: Seconds since 1970.
    expires: float
    begun: BegunSignIn


class SignInWays(TypedDict):
    """Whether users may sign in by a provider."""

    oidc: bool


class OidcSignIn:
    """The calls by which a browser signs in at a provider and returns."""

    def __init__(
        self, guard: Guard, records: LoginRecords, clock: Clock, login: OidcLogin | None
    ) -> None:
        self._guard = guard
        self._records = records
        self._clock = clock
        self._login = login
        self._tries = Tries(clock)

    def routes(self) -> list[Route]:
        """Returns the route of the page that the provider sends browsers to."""
        return [Route(CALLBACK, self._guard.page(self._finish, _error_page, PLAIN_POLICY))]

    @route("GET", "/login", None, "see how users sign in")
    async def describe(self, _request: Request) -> SignInWays:
        """Returns whether users may sign in by a provider."""
        return {"oidc": self._login is not None}

    @route("POST", "/oidc", None, "begin to sign in with OpenID Connect")
    async def begin(self, request: Request) -> Response:
        """Returns the provider's address for the browser, and sets the cookie of this sign-in."""
        redirect_uri = str(request.url.replace(path=CALLBACK, query="", fragment=""))
        login = self._require_login
        try:
            url, begun = await login.provider.begin(redirect_uri)
        except SignInRefused as error:
            raise CloudTrailError("SignInRefused", str(error), 502) from error
        cookie = _Cookie((self._clock.now() + MAX_TIME).timestamp(), begun)
        response = Response(url, media_type="text/plain")
        name, path = _cookie_of(request)
        # Not strict, so that browsers send it after the provider's redirect.
        response.set_cookie(
            name,
            login.sealer.seal(msgspec.json.encode(cookie), _CONTEXT),
            max_age=int(MAX_TIME.total_seconds()),
            path=path,
            httponly=True,
            samesite="lax",
            secure=is_secure(request),
        )
        return response

    async def _finish(self, request: Request) -> Response:
        """Begins a session when a browser returns from the provider."""
        login = self._require_login
        name, path = _cookie_of(request)
        answer = dict(request.query_params)
        begun = self._begun_in(request.cookies.get(name, ""), answer.get("state", ""))
        address = address_of(request)
        try:
            # Limits attempts with one cookie: each calls the provider, and may write a record.
            self._tries.count(begun.state, address)
            claims = await login.provider.finish(begun, answer)
        except TooManyTries as error:
            raise CloudTrailError("TooManyTries", str(error), 429) from error
        except SignInRefused as error:
            await self._records.record_failure(request, None)
            raise CloudTrailError("SignInRefused", str(error), 401) from error
        user = await self._user_of(request, login, claims)
        self._tries.forget(begun.state, address)
        response = RedirectResponse("/console/", 303)
        await self._records.record_success(request, user)
        await self._guard.begin_for(request, user, response)
        response.delete_cookie(name, path, httponly=True, secure=is_secure(request))
        return response

    def _begun_in(self, text: str, state: str) -> BegunSignIn:
        """Returns the sign-in of a cookie.

        Raises:
            CloudTrailError: the cookie has another state, or is too old.
        """
        try:
            content = self._require_login.sealer.unseal(text, _CONTEXT)
            cookie = msgspec.json.decode(content, type=_Cookie)
        except StorageFailed:
            cookie = None
        if (
            cookie is None
            or cookie.expires < self._clock.now().timestamp()
            or not hmac.compare_digest(
                cookie.begun.state.encode(), state.encode("utf-8", "replace")
            )
        ):
            message = "This sign-in was not begun in this browser, or is too old: begin again."
            raise CloudTrailError("SignInRefused", message, 401)
        return cookie.begun

    async def _user_of(
        self, request: Request, login: OidcLogin, claims: Mapping[str, Any]
    ) -> ApiCaller:
        """Returns the user of verified claims.

        Raises:
            CloudTrailError: the user has no role or no account; the refusal is recorded.
        """
        name, subject = f"oidc:{_name_in(claims)}", (claims["iss"], claims["sub"])
        roles = [
            login.roles[text] for text in _texts(claims, login.role_claim) if text in login.roles
        ]
        accounts = None
        message = f"No role is for {name}: its claim {login.role_claim} has none that is known."
        if roles and login.accounts_claim is not None:
            accounts = _accounts(_texts(claims, login.accounts_claim))
            message = f"No account is for {name}: its claim {login.accounts_claim} has no id."
        if not roles or accounts == ():
            await self._records.record_failure(request, name, subject)
            raise CloudTrailError("SignInRefused", message, 403)
        return ApiCaller(name, max(roles), accounts, subject=subject)

    @property
    def _require_login(self) -> OidcLogin:
        if self._login is None:
            raise Unsupported("signing in by OpenID Connect without [oidc] issuer")
        return self._login


def _error_page(code: str, message: str, status: int, request_id: str) -> Response:
    alert = f"<p role=alert>{text_of(message)} ({text_of(code)}, request {text_of(request_id)})</p>"
    return page_of("Sign in", f'{alert}<p><a href="/console/">Sign in again</a></p>', status)


def _name_in(claims: Mapping[str, Any]) -> str:
    """Returns a user's name, which may not be unique."""
    for claim in _NAMES:
        value = _verified(claims, claim)
        if isinstance(value, str) and _is_name(value) and not _is_foreign(claim, value, claims):
            return value
    return "unnamed"


def _is_name(text: str) -> bool:
    """Returns whether a string is a displayable name in normalized Unicode."""
    return (
        len(text) <= _MAX_NAME_LENGTH
        and _NAME.fullmatch(text) is not None
        and unicodedata.normalize("NFKC", text) == text
    )


def _is_foreign(claim: str, value: str, claims: Mapping[str, Any]) -> bool:
    """Returns whether a name may be another user's address.

    Many providers let users choose `preferred_username`, so an address in it must be verified.
    """
    return claim == "preferred_username" and "@" in value and value != _verified(claims, "email")


def _verified(claims: Mapping[str, Any], claim: str) -> Any:
    """Returns the value of a claim; None if the provider does not vouch for it."""
    voucher = _VERIFIED_BY.get(claim)
    return claims.get(claim) if voucher is None or claims.get(voucher) is True else None


def _texts(claims: Mapping[str, Any], path: str) -> Sequence[str]:
    """Returns the strings of a claim, or of a path into the objects of claims.

    Names may also contain dots, so each step uses the longest existing name.
    """
    holder, parts = claims, path.split(".")
    while True:
        names = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
        name = next((name for name in names if name in holder), None)
        if name is None:
            return ()
        parts = parts[name.count(".") + 1 :]
        value = _verified(holder, name)
        if not parts:
            values = value if isinstance(value, list) else [value]
            return [text for text in values if isinstance(text, str)]
        if not isinstance(value, Mapping):
            return ()
        holder = value


def _accounts(texts: Sequence[str]) -> tuple[str, ...] | None:
    """Returns the account ids among strings; None for all accounts."""
    if _ALL_ACCOUNTS in texts:
        return None
    return tuple(sorted({text for text in texts if is_account(text)}))


def _cookie_of(request: Request) -> tuple[str, str]:
    return (_SECURE_COOKIE, "/") if is_secure(request) else (_COOKIE, "/console")
