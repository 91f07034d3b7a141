"""The organization that the accounts of a server belong to."""

from __future__ import annotations

from typing import Protocol

from opentrail.core.organization import Organization


class Organizations(Protocol):
    """Where the organization is described."""

    async def current(self) -> Organization | None:
        """Return the organization, or None if there is none.

        While the source fails, return its last answer.

        Raises:
            ServiceError: the source fails, and has not answered since the server started.
        """
        ...
