"""Sessions of the web console: a user's sign-in, or a single-use link, begins one.

`Guard` checks the host, origin and headers of every request, and adds headers to every answer.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from opentrail.access.users import ConsoleRole
from opentrail.api.pages import POLICY
from opentrail.api.v1.answers import describe_error, error_response, with_headers
from opentrail.api.v1.callers import SERVER_OPERATOR, ApiCaller
from opentrail.api.v1.routes import PREFIX
from opentrail.core.errors import CloudTrailError, Conflict, OpentrailError, StorageFailed
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, Collection
from opentrail.ports.control import ControlStore, Document, Stored

#: Lifetime of an unused link.
LINK_LIFETIME = timedelta(minutes=10)
#: A session ends this long after its last request.
MAX_IDLE = timedelta(minutes=30)
#: A session ends this long after it began.
MAX_SESSION = timedelta(hours=12)
#: Maximum number of unused links, and of sessions; beyond it, the oldest end.
MAX_SESSIONS = 1_000
#: Maximum sessions per user, so that no user ends other users' sessions; the oldest end.
MAX_SESSIONS_OF_USER = 100


@dataclass(slots=True)
class Session:
    """The session of a signed-in browser."""

    user: ApiCaller
    began: datetime
    last_used: datetime

    @property
    def expires(self) -> datetime:
        """The time when the session ends without another request."""
        return min(self.began + MAX_SESSION, self.last_used + MAX_IDLE)


class Sessions:
    """Links and sessions in memory; a restart ends them.

    They hold only hashes of the secrets.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        #: Hash of each link → its expiry.
        self._links: dict[bytes, datetime] = {}
        self._sessions: dict[bytes, Session] = {}

    def new_link(self) -> str:
        """Returns the secret of a single-use link, valid for ten minutes."""
        token = secrets.token_urlsafe(32)
        self._links[hash_of(token)] = self._clock.now() + LINK_LIFETIME
        drop_oldest(self._links)
        return token

    async def begin(self, link: str) -> str | None:
        """Begins a session and returns its secret; None if the link is no longer valid."""
        expires = self._links.pop(hash_of(link), None)
        if expires is None or expires < self._clock.now():
            return None
        return await self.begin_for(SERVER_OPERATOR)

    async def begin_for(self, user: ApiCaller) -> str:
        """Begins a session of a user who has signed in, and returns its secret."""
        now = self._clock.now()
        secret = secrets.token_urlsafe(32)
        own = [key for key, session in self._sessions.items() if session.user.name == user.name]
        for key in own[: 1 - MAX_SESSIONS_OF_USER]:
            del self._sessions[key]
        self._sessions[hash_of(secret)] = Session(user, now, now)
        drop_oldest(self._sessions)
        return secret

    async def find(self, secret: str) -> Session | None:
        """Returns the session of a secret, and records its use; None if it has ended."""
        now, key = self._clock.now(), hash_of(secret)
        session = self._sessions.get(key)
        if session is None:
            return None
        if session.expires < now:
            del self._sessions[key]
            return None
        session.last_used = now
        return session

    async def end(self, secret: str) -> None:
        """Ends a session."""
        self._sessions.pop(hash_of(secret), None)

    async def end_all_of(self, name: str) -> int:
        """Ends the sessions of a user, and returns their number."""
        before = len(self._sessions)
        self._sessions = {
            key: session for key, session in self._sessions.items() if session.user.name != name
        }
        return before - len(self._sessions)


def hash_of(secret: str) -> bytes:
    """Returns the key of a link or a session: the hash of its secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def drop_oldest(entries: dict[bytes, Any]) -> None:
    """Removes the oldest entry if there are too many."""
    if len(entries) > MAX_SESSIONS:
        del entries[next(iter(entries))]


# Sessions that servers share

_KIND = "console-session"
#: Maximum age of a copy, so that a session ended on another server ends here within a second.
_MAX_AGE = timedelta(milliseconds=500)
#: Minimum time between two stored uses of a session.
_USE_INTERVAL = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class _Copy:
    """A session, read earlier from the store."""

    session: Session
    version: int
    read_at: datetime


class StoredSessions(Sessions):
    """Sessions in a control store, by the hashes of their secrets; links are in memory.

    A link has the address of its server, so other servers do not need to know it.
    """

    def __init__(self, clock: Clock, control: ControlStore) -> None:
        super().__init__(clock)
        self._stored = Collection(control, _KIND, Codec(_session_of, _document_of))
        self._copies: dict[bytes, _Copy] = {}

    async def begin_for(self, user: ApiCaller) -> str:
        """Begins a session of a user who has signed in, and returns its secret."""
        now, secret = self._clock.now(), secrets.token_urlsafe(32)
        begun = {item.stored.key: item.value for item in await self._stored.items()}
        oldest_first = sorted(begun, key=lambda key: begun[key].began)
        own = [key for key in oldest_first if begun[key].user.name == user.name]
        ended = {key for key in oldest_first if begun[key].expires < now}
        ended.update(own[: 1 - MAX_SESSIONS_OF_USER], oldest_first[: 1 - MAX_SESSIONS])
        new = self._stored.addition(hash_of(secret).hex(), Session(user, now, now))
        await self._stored.apply([*self._stored.removals(ended), new])
        return secret

    async def find(self, secret: str) -> Session | None:
        """Returns the session of a secret, and records its use; None if it has ended."""
        now, key = self._clock.now(), hash_of(secret)
        copy = self._copies.get(key)
        if copy is None or now - copy.read_at >= _MAX_AGE:
            copy = await self._read(key, now)
        if copy is None or copy.session.expires < now:
            return None
        if now - copy.session.last_used >= _USE_INTERVAL:
            await self._record_use(key, copy, now)
        return copy.session

    async def end(self, secret: str) -> None:
        """Ends a session."""
        key = hash_of(secret)
        await self._stored.apply(self._stored.removals([key.hex()]))
        self._copies.pop(key, None)

    async def end_all_of(self, name: str) -> int:
        """Ends the sessions of a user, and returns their number."""
        items = await self._stored.items()
        keys = [item.stored.key for item in items if item.value.user.name == name]
        await self._stored.apply(self._stored.removals(keys))
        for key in keys:
            self._copies.pop(bytes.fromhex(key), None)
        return len(keys)

    async def _read(self, key: bytes, now: datetime) -> _Copy | None:
        """Reads a session from the store; returns the last copy while the store is unreadable."""
        former = self._copies.get(key)
        try:
            item = await self._stored.find(key.hex())
        except StorageFailed:
            if former is None:
                raise
            copy = replace(former, read_at=now)
        else:
            self._copies.pop(key, None)
            if item is None:
                return None
            copy = _Copy(item.value, item.stored.version, now)
        self._copies[key] = copy
        drop_oldest(self._copies)
        return copy

    async def _record_use(self, key: bytes, copy: _Copy, now: datetime) -> None:
        session = replace(copy.session, last_used=now)
        # Another server may have used or ended the session. After a failure, a later use is stored.
        with contextlib.suppress(Conflict, StorageFailed):
            await self._stored.put(key.hex(), session, expected=copy.version)
            self._copies[key] = _Copy(session, copy.version + 1, now)


def _session_of(stored: Stored) -> Session:
    document = stored.document
    accounts, subject = document["accounts"], document.get("subject")
    user = ApiCaller(
        document["user"],
        ConsoleRole.parse(document["role"]),
        None if accounts is None else tuple(accounts),
        document["has_password"],
        None if subject is None else (subject[0], subject[1]),
    )
    began, last_used = (datetime.fromisoformat(document[name]) for name in ("began", "last_used"))
    return Session(user, began, last_used)


def _document_of(session: Session) -> Document:
    user = session.user
    return {
        "user": user.name,
        "role": str(user.role),
        "accounts": None if user.accounts is None else list(user.accounts),
        "has_password": user.has_password,
        "subject": None if user.subject is None else list(user.subject),
        "began": session.began.isoformat(),
        "last_used": session.last_used.isoformat(),
    }


# Requests and answers

#: The session's cookie without TLS.
COOKIE = "ot-session"
#: The session's cookie over TLS. A browser accepts its prefix only there, and only from the
#: console's host.
SECURE_COOKIE = "__Host-ot"
#: A browser sends this header only from scripts of the same origin.
CSRF_HEADER = "x-ot-csrf"
#: Methods that change nothing.
_SAFE = ("GET", "HEAD")

Handler = Callable[[Request], Awaitable[Any]]
Endpoint = Callable[[Request], Awaitable[Response]]
#: Returns the answer to a failed request, from code, message, status and request id.
ShowError = Callable[[str, str, int, str], Response]


class Guard:
    """Accepts only requests from the console's own pages.

    Args:
        sessions: the sessions of browsers.
        is_own_name: returns whether a header `Host`, in lowercase, names this server. None accepts
            any host, as over TLS, where the certificate names the server.
    """

    def __init__(self, sessions: Sessions, is_own_name: Callable[[str], bool] | None) -> None:
        self.sessions = sessions
        self._is_own_name = is_own_name

    def page(
        self, handler: Handler, show: ShowError = error_response, policy: str = POLICY
    ) -> Endpoint:
        """Wraps a handler of a page that needs no session."""

        async def wrapped(request: Request) -> Response:
            request_id = str(uuid.uuid4())
            try:
                self.check(request)
                response: Response = await handler(request)
            except (TimeoutError, OpentrailError) as error:
                response = show(*describe_error(error, request_id), request_id)
            return with_headers(response, request_id, policy)

        return wrapped

    async def begin(self, request: Request, link: str, response: Response) -> None:
        """Begins a session by the secret of a link, and adds its cookie to a response.

        Raises:
            CloudTrailError: `InvalidToken`.
        """
        secret = await self.sessions.begin(link)
        if secret is None:
            message = "This link was used or is too old: `opentrail console` prints a new one."
            raise CloudTrailError("InvalidToken", message, 401)
        await self._replace_session(request, secret, response)

    async def begin_for(self, request: Request, user: ApiCaller, response: Response) -> None:
        """Begins a session of a user who has signed in, and adds its cookie to a response."""
        secret = await self.sessions.begin_for(user)
        await self._replace_session(request, secret, response)

    async def end(self, request: Request, response: Response) -> None:
        """Ends the session of a request, and removes its cookie in a response."""
        name, path = _cookie_of(request)
        await self.sessions.end(request.cookies.get(name, ""))
        response.delete_cookie(
            name, path, httponly=True, samesite="strict", secure=is_secure(request)
        )

    async def _replace_session(self, request: Request, secret: str, response: Response) -> None:
        name, path = _cookie_of(request)
        await self.sessions.end(request.cookies.get(name, ""))
        response.set_cookie(
            name,
            secret,
            max_age=int(MAX_SESSION.total_seconds()),
            path=path,
            httponly=True,
            samesite="strict",
            secure=is_secure(request),
        )

    async def session(self, request: Request) -> Session:
        """Returns the session of a request.

        Raises:
            CloudTrailError: `NoSession`: the request has no valid session.
        """
        session = await self.sessions.find(request.cookies.get(_cookie_of(request)[0], ""))
        if session is None:
            message = (
                "There is no session, or it has ended. Sign in, or open a new link: "
                "`opentrail console` prints one."
            )
            raise CloudTrailError("NoSession", message, 401)
        return session

    async def caller(self, request: Request) -> ApiCaller:
        """Returns the user of a request's session.

        Raises:
            CloudTrailError: `NoSession`: the request has no valid session.
        """
        return (await self.session(request)).user

    def knows(self, request: Request) -> bool:
        """Returns whether a request has a session cookie, valid or not."""
        return _cookie_of(request)[0] in request.cookies

    async def is_signed_in(self, request: Request) -> bool:
        """Returns whether the session of a request is still valid, and records its use."""
        secret = request.cookies.get(_cookie_of(request)[0], "")
        return await self.sessions.find(secret) is not None

    def check(self, request: Request) -> None:
        """Returns if a page of this console sent the request.

        Raises:
            CloudTrailError: the request is for another host, or from a page of another origin.
        """
        host = self._check_host(request)
        if request.method in _SAFE:
            return
        origin = request.headers.get("origin", f"{request.url.scheme}://{host}")
        site = request.headers.get("sec-fetch-site", "same-origin")
        is_own = _is_own(origin, host, request) and site == "same-origin"
        if not is_own or CSRF_HEADER not in request.headers:
            message = f"a {request.method} must come from the console and have {CSRF_HEADER}"
            raise CloudTrailError("CrossOrigin", message, 403)
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            message = f"Content-Type must be application/json, not {kind!r}"
            raise CloudTrailError("UnsupportedMediaType", message, 415)

    def _check_host(self, request: Request) -> str:
        host = request.headers.get("host", "").lower()
        if self._is_own_name is not None and not self._is_own_name(host):
            raise CloudTrailError("UnknownHost", f"this server is not {host!r}", 421)
        return host


def is_secure(request: Request) -> bool:
    """Returns whether a request came over TLS."""
    return request.url.scheme == "https"


def _cookie_of(request: Request) -> tuple[str, str]:
    """Returns name and path of the session's cookie.

    With the prefix the path must be `/`. Without TLS, browsers send a cookie to every port of this
    host; the path keeps it from most other servers there.
    """
    return (SECURE_COOKIE, "/") if is_secure(request) else (COOKIE, PREFIX)


def _is_own(origin: str, host: str, request: Request) -> bool:
    """Returns whether an origin is this console's.

    A console without TLS may be behind a proxy that adds it.
    """
    scheme, _, name = origin.lower().partition("://")
    return name == host and (scheme == "https" or not is_secure(request))
