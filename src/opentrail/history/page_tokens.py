"""Sealed page tokens: the first page's snapshot, and the start of the next page."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any

import msgspec

from opentrail.core.errors import CloudTrailError
from opentrail.ports.event_store import Snapshot

#: Bytes of a seal.
_SEAL_BYTES = 16


class PageToken(msgspec.Struct, frozen=True, array_like=True):
    """The content of a token, stored as a list of numbers."""

    #: Seconds since 1970 and position of the last event before the next page, or first and last
    #: second of the periods that it counts.
    first: int
    second: int
    #: The snapshot that all pages see.
    recorded: int
    imported: int

    @property
    def snapshot(self) -> Snapshot:
        """The events that all pages see."""
        return Snapshot(self.recorded, self.imported)


class PageTokens:
    """Writes and reads tokens; a token is valid only for the search that it was written for.

    Args:
        key: seals tokens, so that no client can make one.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def write(self, token: PageToken, conditions: Mapping[str, Any]) -> str:
        """Returns a token as text.

        Args:
            token: its content.
            conditions: the whole search, with the accounts that the caller may see.
        """
        body = json.dumps(msgspec.to_builtins(token)).encode()
        return base64.urlsafe_b64encode(self._seal(body, conditions) + body).decode()

    def read(self, text: str, conditions: Mapping[str, Any]) -> PageToken:
        """Returns the content of a token.

        Raises:
            CloudTrailError: `InvalidNextTokenException`: it is not ours, or was written for another
                search.
        """
        try:
            raw = base64.urlsafe_b64decode(text.encode())
        except (binascii.Error, ValueError) as error:
            raise _invalid() from error
        seal, body = raw[:_SEAL_BYTES], raw[_SEAL_BYTES:]
        if not hmac.compare_digest(seal, self._seal(body, conditions)):
            raise _invalid()
        return msgspec.json.decode(body, type=PageToken)

    def _seal(self, body: bytes, conditions: Mapping[str, Any]) -> bytes:
        """Binds a token to the caller's account and to the whole search (guarantee Z3)."""
        search = json.dumps(conditions, default=str, sort_keys=True).encode()
        seal = hmac.digest(self._key, body + hashlib.sha256(search).digest(), "sha256")
        return seal[:_SEAL_BYTES]


def _invalid() -> CloudTrailError:
    return CloudTrailError(
        "InvalidNextTokenException",
        "The next token is not valid, or it was given for a request with other parameters.",
    )
