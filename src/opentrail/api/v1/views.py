"""Saved views: states of the pages for event history and SQL, under names that all users see."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any, TypedDict, cast

import msgspec
import orjson
from starlette.requests import Request

from opentrail.api.services import Services
from opentrail.api.v1.answers import invalid_parameter
from opentrail.api.v1.callers import ApiCaller, caller_of
from opentrail.api.v1.routes import OPERATOR, VIEWER, route
from opentrail.core.errors import CloudTrailError, Conflict, UsageError
from opentrail.core.event import Json
from opentrail.history.written_searches import search_in
from opentrail.lake.queries import MAX_STATEMENT
from opentrail.ports.collection import Codec, Collection, Item

_KIND = "ConsoleView"
#: Maximum number of views.
_MAX_VIEWS = 100
#: Maximum characters in a name.
_MAX_NAME_LENGTH = 128
#: Maximum bytes of a state without a statement.
_MAX_STATE_BYTES = 4_000
#: Members of a state: the parts of the page's address that a view saves.
_MEMBERS = (
    *("expression", "last", "since", "until"),
    *("account", "region", "categories", "columns"),
    "statement",
)
#: Valid values of the members that `search_in` does not check.
_FORMS = {
    "last": (re.compile(r"\d{1,5}[mhdw]"), "a length such as 15m, 12h, 7d or 2w"),
    "categories": (re.compile("all"), "all, or left out"),
    "columns": (re.compile(r"[A-Za-z]{1,40}(,[A-Za-z]{1,40})*"), "names of columns with commas"),
}


class ViewState(TypedDict, total=False):
    """The parts of the address of Event history that a view saves, or the statement for SQL."""

    expression: str
    last: str
    since: str
    until: str
    account: str
    region: str
    categories: str
    columns: str
    statement: str


class SavedView(TypedDict):
    """A view under its name."""

    name: str
    version: int
    state: ViewState


class SavedViews(TypedDict):
    """All views that the caller may see, by name."""

    views: list[SavedView]


class _View(msgspec.Struct, frozen=True):
    """A stored view."""

    state: dict[str, Any]
    #: Ids of the accounts that its author may see; None: all.
    accounts: list[str] | None = None


class Views:
    """The calls about saved views."""

    def __init__(self, services: Services) -> None:
        self._services = services
        full = f"there are {_MAX_VIEWS} views already; delete one first"
        codec = Codec.of(_View)
        self._views = Collection(services.control, _KIND, codec, limit=_MAX_VIEWS, full=full)

    @route("GET", "/views", VIEWER, "use saved views")
    async def all(self, request: Request) -> SavedViews:
        """Returns the views, by name, whose authors see no more accounts than the caller."""
        user = caller_of(request)
        items = await self._views.items()
        return {"views": [_row(item) for item in items if _may_see(user, item.value)]}

    @route(
        "PUT",
        "/views/{name:path}",
        OPERATOR,
        "save a view",
        body='{"state": {"last": "7d"}, "expected": 0}',
    )
    async def save(self, request: Request, body: Json) -> SavedView:
        """Stores a view: a new one if `expected` is 0, otherwise it replaces that version."""
        name = _name(request)
        state = self._state(body)
        expected = _expected(body)
        user = caller_of(request)
        async with self._views.turn:
            current = await self._views.find(name)
            if current is not None and not _may_see(user, current.value):
                raise _conflict(name, expected)
            view = _View({**state}, list(user.accounts) if user.accounts else None)
            try:
                await self._views.put(name, view, expected)
            except UsageError as error:
                raise CloudTrailError("TooManyViews", str(error)) from error
            except Conflict as error:
                raise _conflict(name, expected) from error
            item = await self._views.find(name)
        return {"name": name, "version": item.stored.version if item else 0, "state": state}

    @route("DELETE", "/views/{name:path}", OPERATOR, "delete a saved view")
    async def remove(self, request: Request) -> Json:
        """Deletes a view if it exists."""
        name = _name(request)
        current = await self._views.find(name)
        if current is not None and _may_see(caller_of(request), current.value):
            await self._views.apply(self._views.removals([name]))
        return {}

    def _state(self, body: Json) -> ViewState:
        """Returns the state of a request.

        Raises:
            CloudTrailError: a member is unknown, too large or not valid.
        """
        _check_members("", body, ("state", "expected"))
        state = body.get("state")
        if not isinstance(state, dict):
            raise invalid_parameter("state must be a JSON object")
        _check_members("state.", state, _MEMBERS)
        for member, value in state.items():
            if value is not None and not isinstance(value, str):
                raise invalid_parameter(f"state.{member} must be a string, not {value!r}")
        members = {member: value for member, value in state.items() if value is not None}
        if "statement" in members:
            _check_statement(members)
        elif len(orjson.dumps(state)) > _MAX_STATE_BYTES:
            raise invalid_parameter(f"state must have at most {_MAX_STATE_BYTES} bytes")
        else:
            self._check(members)
        return cast(ViewState, members)

    def _check(self, state: Mapping[str, str]) -> None:
        """Raises `CloudTrailError` if a member's value is invalid."""
        for member, (form, meaning) in _FORMS.items():
            if member in state and not form.fullmatch(state[member]):
                raise invalid_parameter(f"state.{member} must be {meaning}, not {state[member]!r}")
        if "last" in state and ("since" in state or "until" in state):
            raise invalid_parameter("state.last excludes state.since and state.until")
        for member in ("expression", "since", "until"):
            try:
                search_in({member: state.get(member, "")}, self._services.clock.now())
            except CloudTrailError as error:
                raise invalid_parameter(f"state.{member}: {error.message}") from error


def _check_statement(state: Mapping[str, str]) -> None:
    """Raises `CloudTrailError` if the state of the page for SQL is invalid."""
    statement, *others = state["statement"], *(name for name in state if name != "statement")
    if others:
        raise invalid_parameter(f"state.statement excludes state.{others[0]}")
    if not statement.strip() or len(statement) > MAX_STATEMENT:
        raise invalid_parameter(f"state.statement must have 1 to {MAX_STATEMENT} characters")


def _row(item: Item[_View]) -> SavedView:
    stored = item.stored
    return {"name": stored.key, "version": stored.version, "state": stored.document["state"]}


def _may_see(user: ApiCaller, view: _View) -> bool:
    """Returns whether a user may see all accounts that the view's author may see."""
    if user.accounts is None:
        return True
    return view.accounts is not None and set(view.accounts) <= set(user.accounts)


def _check_members(where: str, body: Json, names: Sequence[str]) -> None:
    for member in body:
        if member not in names:
            raise invalid_parameter(
                f"there is no member {where}{member}; known are {', '.join(names)}"
            )


def _name(request: Request) -> str:
    """Returns the name in a path, normalized, so that lookalike names are equal."""
    name = unicodedata.normalize("NFC", request.path_params["name"])
    is_visible = name.isprintable() and name == name.strip()
    # Browsers resolve . and .. in an address as folders.
    if not 1 <= len(name) <= _MAX_NAME_LENGTH or not is_visible or name in (".", ".."):
        raise invalid_parameter(
            f"name must have 1 to {_MAX_NAME_LENGTH} visible characters, without blanks at its"
            " ends, and not be . or .."
        )
    return name


def _expected(body: Json) -> int:
    expected = body.get("expected")
    if not isinstance(expected, int) or isinstance(expected, bool) or expected < 0:
        raise invalid_parameter("expected must be the version that is replaced, 0 for a new view")
    return expected


def _conflict(name: str, expected: int) -> CloudTrailError:
    message = (
        f"the view {name!r} has been changed or deleted; load the views again"
        if expected
        else f"there is a view {name!r} already; replace it, or choose another name"
    )
    return CloudTrailError("ViewChanged", message, 409)
