"""Administrator calls: access keys, policies, key identities, received and imported records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import partial
from typing import Any, TypedDict

from starlette.requests import Request

from opentrail.api.v1.answers import report
from opentrail.api.v1.routes import ADMIN, route
from opentrail.core.event import Json
from opentrail.core.identity import Identity

Act = Callable[[Json], Awaitable[Json]]
_EXAMPLE = '{"action": "list"}'


class KnownIdentity(TypedDict):
    """The identity behind an access key id."""

    account: str
    userIdentity: Any
    deletedBy: str | None
    #: The value of the session tag `agent`, which names an agent.
    agentTag: str | None
    #: The session tags that roles assumed from it inherit: key → value.
    transitiveTags: Mapping[str, str]


class Taken(TypedDict):
    """The number of records that were recorded."""

    taken: int


class AccessAdministration:
    """The actions on access keys, on policies, and on the names of keys.

    Args:
        keys: runs an action on access keys.
        policies: runs an action on policies.
        directory: runs an action on the names behind keys.
    """

    def __init__(self, keys: Act, policies: Act, directory: Act) -> None:
        self._keys = keys
        self._policies = policies
        self._directory = directory

    @route("POST", "/access-keys", ADMIN, "manage access keys", body=_EXAMPLE, token_only=True)
    async def keys(self, _request: Request, body: Json) -> Json:
        """Runs an action on access keys."""
        return await self._keys(body)

    @route("POST", "/policies", ADMIN, "manage policies", body=_EXAMPLE, token_only=True)
    async def policies(self, _request: Request, body: Json) -> Json:
        """Runs an action on policies."""
        return await self._policies(body)

    @route(
        "POST", "/directory", ADMIN, "manage the names behind keys", body=_EXAMPLE, token_only=True
    )
    async def directory(self, _request: Request, body: Json) -> Json:
        """Runs an action on the names behind keys."""
        return await self._directory(body)


class ReceivedRecords:
    """The calls that receive records of other processes.

    Args:
        ingest: records NDJSON records and returns their number; the flag allows duplicates.
        identify: returns the identity of an access key id.
    """

    def __init__(
        self,
        ingest: Callable[[bytes, bool], Awaitable[int]],
        identify: Callable[[str], Identity],
    ) -> None:
        self._ingest = ingest
        self._identify = identify

    @route(
        "POST",
        "/records",
        ADMIN,
        "record what hooks and middleware send",
        query=("again",),
        token_only=True,
    )
    async def records(self, request: Request) -> Taken:
        """Records what hooks and middleware send."""
        again = request.query_params.get("again") == "true"
        return {"taken": await self._ingest(await request.body(), again)}

    @route(
        "GET", "/identities/{key}", ADMIN, "see the identity behind an access key", token_only=True
    )
    async def identity(self, request: Request) -> KnownIdentity:
        """Returns the identity of an access key id."""
        identity = self._identify(request.path_params["key"])
        return {
            "account": identity.account,
            "userIdentity": identity.user_identity,
            "deletedBy": identity.deleted_by,
            "agentTag": identity.agent_tag,
            "transitiveTags": identity.transitive_tags,
        }


class ImportedFiles:
    """The call that imports files of events.

    Args:
        imports: imports the files in a body, and returns the result of each; calls a function with
            the number of bytes read.
    """

    def __init__(
        self, imports: Callable[[AsyncIterator[bytes], Callable[[int], None]], Awaitable[Json]]
    ) -> None:
        self._imports = imports

    @route("POST", "/import", ADMIN, "import files of events", token_only=True, is_followed=True)
    async def imported(self, request: Request) -> Json:
        """Imports the files in a body in the form of imports/batch.py; progress counts bytes."""
        return await self._imports(request.stream(), partial(report, request))
