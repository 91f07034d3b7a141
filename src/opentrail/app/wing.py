"""A wing: a part of opentrail that the core starts, but never imports.

The core records, finds, delivers and answers. Each wing adds one feature, and no other part of
the server depends on it: a server starts with any set of wings, even an empty one.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from starlette.routing import Route

from opentrail.adapters.aws.object_store import S3Objects
from opentrail.adapters.aws.services import ServiceClients
from opentrail.adapters.data_directory.files import DataDirectory
from opentrail.api.services import Services, TrailManagement
from opentrail.api.v1.callers import PersonalTokens, SessionAuthenticator
from opentrail.app.engines import Engines
from opentrail.ports.control import ControlStore
from opentrail.ports.follow import Follower, NeededAfter, follow, needs_all
from opentrail.ports.journal import Journal
from opentrail.settings import Settings
from opentrail.trails.delivery_rounds import Sink
from opentrail.trails.plans import EntrySelector
from opentrail.trails.registry import TrailRegistry

Missing = Callable[[], list[str]]


@dataclass(frozen=True, slots=True)
class Core:
    """The interface for a starting wing: calls are not recorded yet."""

    #: Stops everything the wing starts.
    stack: AsyncExitStack
    settings: Settings
    data: DataDirectory
    engines: Engines
    trails: TrailRegistry
    #: The control store, as followers change it: on one server of a cluster at a time.
    worker_control: ControlStore
    #: The journal, as followers append to it: on one server of a cluster at a time.
    worker_journal: Journal
    #: Reads the entries that trails select.
    selector: EntrySelector
    objects: S3Objects
    #: Clients of the upstream's services.
    clients: ServiceClients
    #: The account of the server's own calls.
    account: Callable[[], str]
    #: The addresses of both ports.
    endpoint_url: str
    console_url: str

    async def follow(
        self, follower: Follower, linger: float, needed_after: NeededAfter = needs_all
    ) -> None:
        """Feeds a follower of a wing until cancelled; nothing that it needs is deleted.

        Args:
            follower: the follower to feed.
            linger: seconds for which records gather after a batch.
            needed_after: returns the position after which it needs entries, given its cursor.
        """
        engines = self.engines
        await follow(
            engines.journal, follower, linger, progress=engines.progress, needed_after=needed_after
        )


def _no_groups(_services: Services, _missing: Missing) -> Sequence[object]:
    return ()


@dataclass(frozen=True, slots=True)
class Wing:
    """The parts that a wing adds to a server."""

    #: Returns its groups of the JSON API (`api/v1/routes.py`).
    groups: Callable[[Services, Missing], Sequence[object]] = _no_groups
    #: Its other routes on the console's port.
    pages: Sequence[Route] = ()
    #: Tasks that run with the server from the start of recording to its end; in a cluster on one
    #: server at a time, and perhaps several times on one.
    followers: Sequence[Callable[[], Coroutine[Any, Any, None]]] = ()
    #: Who gets messages about delivered files.
    sinks: Sequence[Sink] = ()
    #: Returns the wing's problem, for `/health`.
    problems: Callable[[], list[str]] = list
    #: Who may manage organization trails.
    organizations: TrailManagement | None = None
    #: Authenticates browsers.
    sessions: SessionAuthenticator | None = None
    #: Authenticates programs with a user's personal token.
    user_tokens: PersonalTokens | None = None
    #: The address of its first page, for browser requests to missing pages.
    home: str | None = None
    #: Returns a single-use link to the web console.
    console_link: Callable[[], str] | None = None


StartWing = Callable[[Core], Wing]
