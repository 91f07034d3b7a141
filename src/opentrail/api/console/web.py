"""The web console's pages, and the calls of a browser's session."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from opentrail.access.user_tokens import UserTokens
from opentrail.access.users import ConsoleUsers
from opentrail.api.console.oidc import OidcLogin, OidcSignIn
from opentrail.api.console.sessions import Guard, Sessions
from opentrail.api.console.sign_in import LoginRecords, SignIn
from opentrail.api.services import Services
from opentrail.api.v1.answers import Role, role_name
from opentrail.api.v1.callers import OwnChanges, PersonalTokens, caller_of, seen_by
from opentrail.api.v1.routes import ADMIN, VIEWER, route
from opentrail.api.v1.users import UserAdministration, UserTokenAdministration
from opentrail.api.v1.views import Views
from opentrail.core.event import Json, format_time
from opentrail.core.version import __version__
from opentrail.history.event_history import Search
from opentrail.ports.clock import Clock
from opentrail.ports.journal import JournalWriter

FOLDER = Path(__file__).parents[2] / "console_static"
#: Encoding → suffix of prebuilt compressed files, best first.
_ENCODINGS = {"br": ".br", "gzip": ".gz"}
_FOREVER = "public, max-age=31536000, immutable"
_NOT_BUILT = (
    "The web console is not part of this installation: it was built without Node and npm.\n"
    "Install opentrail from a wheel, or install Node and run `pip install .` again.\n"
    "Everything else works: the endpoint, the CloudTrail API and the command line.\n"
)


class Assets:
    """The files of a folder; paths without a dot are pages, served by `index.html`."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder
        self._files = {
            str(file.relative_to(folder)): file
            for file in folder.rglob("*")
            if file.is_file() and file.suffix not in _ENCODINGS.values()
        }

    async def answer(self, request: Request) -> Response:
        """Returns the file of a path."""
        name = request.path_params.get("path", "")
        if "." not in name.rpartition("/")[2]:
            name = "index.html"
        file = self._files.get(name)
        if file is None and name == "index.html":
            return Response(_NOT_BUILT, 503, media_type="text/plain")
        if file is None:
            return Response("there is no such file\n", 404, media_type="text/plain")
        encoding, body = _body(file, request.headers.get("accept-encoding", ""))
        headers = {"Vary": "Accept-Encoding"}
        headers["Cache-Control"] = _FOREVER if name.startswith("assets/") else "no-cache"
        if encoding:
            headers["Content-Encoding"] = encoding
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        return Response(body, 200, headers, kind)


def _body(file: Path, accepted: str) -> tuple[str | None, bytes]:
    """Returns the best encoding that a client accepts, and the file's bytes in it."""
    offered = {part.partition(";")[0].strip() for part in accepted.split(",")}
    for encoding, suffix in _ENCODINGS.items():
        encoded = file.with_name(file.name + suffix)
        if encoding in offered and encoded.is_file():
            return encoding, encoded.read_bytes()
    return None, file.read_bytes()


#: The address of its first page.
HOME = "/console/"
#: Source of the events about users and their tokens.
CONSOLE_SOURCE = "console.opentrail.internal"
#: Maximum accounts and Regions that a page offers.
_MAX_CHOICES = 200


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """The server's settings that the console needs.

    Args:
        account: returns the account of the console's calls.
        region: the default Region of pages.
        is_own_name: returns whether a header `Host`, in lowercase, names the console; None accepts
            any host.
    """

    account: Callable[[], str]
    region: str
    is_own_name: Callable[[str], bool] | None


class SessionInfo(TypedDict):
    """The session of a browser, and the accounts and Regions that pages offer."""

    account: str
    accounts: list[str]
    region: str
    regions: list[str]
    user: str
    role: Role
    #: Whether the user signs in by a password of this server.
    hasPassword: bool
    version: str
    expires: str


class ConsoleLink(TypedDict):
    """A link that opens the web console once, within ten minutes."""

    url: str


class WebSession:
    """The calls that begin, describe and end a session.

    Args:
        services: the features that operations use.
        guard: begins and ends sessions.
        settings: the server's settings that the console needs.
        console_link: returns a link that opens the web console once.
    """

    def __init__(
        self,
        services: Services,
        guard: Guard,
        settings: ConsoleSettings,
        console_link: Callable[[], str],
    ) -> None:
        self._services = services
        self._guard = guard
        self._settings = settings
        self._console_link = console_link

    @route(
        "POST", "/console-links", ADMIN, "make a link that opens the console once", token_only=True
    )
    async def link(self, _request: Request) -> ConsoleLink:
        """Returns a link that opens the web console once, within ten minutes."""
        return {"url": self._console_link()}

    @route("POST", "/session", None, "open a one-time link", body='{"token": "…"}')
    async def begin(self, request: Request, body: Json) -> Response:
        """Begins a session with the secret of a link."""
        link = body.get("token")
        response = Response(status_code=204)
        await self._guard.begin(request, link if isinstance(link, str) else "", response)
        return response

    @route("GET", "/session", VIEWER, "see your session")
    async def show(self, request: Request) -> SessionInfo:
        """Returns the signed-in user, and the accounts and Regions to see."""
        user, expires = caller_of(request), (await self._guard.session(request)).expires
        history = seen_by(request, self._services).history
        facets = await history.facets(Search(), ("account", "region"), _MAX_CHOICES)
        choices = {field: {value for value, _ in values} for field, values in facets.items()}
        account, region = self._settings.account(), self._settings.region
        accounts = {account} if user.accounts is None else set(user.accounts)
        return {
            "account": account if user.may_see(account) else min(accounts),
            "accounts": sorted(choices["account"] | accounts),
            "region": region,
            "regions": sorted(choices["region"] | {region}),
            "user": user.name,
            "role": role_name(user.role),
            "hasPassword": user.has_password,
            "version": __version__,
            "expires": format_time(expires),
        }

    @route("DELETE", "/session", VIEWER, "sign out")
    async def end(self, request: Request) -> Response:
        """Ends the session."""
        response = Response(status_code=204)
        await self._guard.end(request, response)
        return response


class WebConsole:
    """The web console's routes besides the JSON API: sessions, users, views, and pages.

    Args:
        journal: records sign-ins and changes of users.
        clock: the time of the records.
        sessions: the sessions of browsers.
        settings: the server's settings that the console needs.
        users: the users with a password.
        tokens: the personal tokens of users.
        console_link: returns a link that opens the web console once.
        oidc: the configuration of sign-in by a provider; None without one.
    """

    def __init__(
        self,
        journal: JournalWriter,
        clock: Clock,
        sessions: Sessions,
        settings: ConsoleSettings,
        users: ConsoleUsers,
        tokens: UserTokens,
        console_link: Callable[[], str],
        oidc: OidcLogin | None = None,
    ) -> None:
        #: Authenticates signed-in browsers.
        self.guard = Guard(sessions, settings.is_own_name)
        self._sessions = sessions
        self._settings = settings
        self._users = users
        self._tokens = tokens
        #: Authenticates programs by personal tokens.
        self.user_tokens = PersonalTokens(tokens.user_of)
        self._console_link = console_link
        self._records = LoginRecords(journal, clock, settings.account)
        self._changes = OwnChanges(journal, clock, settings.account, CONSOLE_SOURCE)
        self._oidc = OidcSignIn(self.guard, self._records, clock, oidc)

    def groups(self, services: Services) -> Sequence[object]:
        """Returns its groups of routes of the JSON API."""
        return (
            WebSession(services, self.guard, self._settings, self._console_link),
            SignIn(self.guard, self._sessions, self._users, self._records),
            self._oidc,
            UserAdministration(
                self._users, self._changes, self._sessions.end_all_of, self._tokens.remove_all_of
            ),
            UserTokenAdministration(self._tokens, self._changes),
            Views(services),
        )

    def pages(self) -> Sequence[Route]:
        """Returns the routes of its pages."""
        home, assets = self.guard.page(_go_home), self.guard.page(Assets().answer)
        return (
            *self._oidc.routes(),
            Route("/", home),
            Route("/console", home),
            Route("/console/{path:path}", assets),
        )


async def _go_home(_request: Request) -> Response:
    return RedirectResponse(HOME, 307)
