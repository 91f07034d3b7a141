"""A service at which users sign in, and which says who they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class BegunSignIn:
    """A sign-in that a browser has begun; its secrets are for the same browser alone."""

    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    #: Where the browser comes back to.
    redirect_uri: str


class IdentityProvider(Protocol):
    """Signs users in by a browser's redirects."""

    async def begin(self, redirect_uri: str) -> tuple[str, BegunSignIn]:
        """Return the URL to send a browser to, and what must be known when it comes back.

        Raises:
            SignInRefused: the provider does not answer as it must.
        """
        ...

    async def finish(self, begun: BegunSignIn, answer: Mapping[str, str]) -> Mapping[str, Any]:
        """Return the claims about a user, only if the provider made them for this sign-in.

        Args:
            begun: what `begin` returned for this browser.
            answer: the query with which the browser came back; its state has been compared.

        Raises:
            SignInRefused: it is not certain who the user is.
        """
        ...
