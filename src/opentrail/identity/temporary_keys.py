"""Identities of temporary and deleted keys, packed because there may be a million."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime
from itertools import islice

import msgspec

from opentrail.core.event import as_object
from opentrail.core.identity import Identity

#: Unpacked identities in memory, the most recently used.
_MAX_UNPACKED = 10_000
#: Maximum seconds from the start of a session until it expires: of GetSessionToken and
#: GetFederationToken. For sessions whose expiry is unknown.
_MAX_SESSION_SECONDS = 36 * 3600
_encoder, _decoder = msgspec.msgpack.Encoder(), msgspec.msgpack.Decoder(Identity)
#: Packed identities have an expiry (seconds since 1970), then whether they are of a user.
_HEAD_BYTES = 5
#: The window of 1 KB contains an identity and the sample, and costs less time than a larger one.
_WINDOW_BITS = -10
_ROLE = "arn:aws:iam::123456789012:role/Role"
#: What packed identities have in common.
_SAMPLE = _encoder.encode(
    Identity(
        "ASIAQEBALCAAAAAAAAAA",
        "123456789012",
        {
            "type": "AssumedRole",
            "principalId": "AROAQEBALCAAAAAAAAAA:session",
            "arn": "arn:aws:sts::123456789012:assumed-role/Role/session",
            "accountId": "123456789012",
            "sessionContext": {
                "sessionIssuer": {
                    "type": "Role",
                    "principalId": "AROAQEBALCAAAAAAAAAA",
                    "arn": _ROLE,
                    "accountId": "123456789012",
                    "userName": "Role",
                },
                "webIdFederationData": {},
                "attributes": {"creationDate": "2026-01-01T00:00:00Z", "mfaAuthenticated": "false"},
            },
        },
        "00000000-0000-4000-8000-000000000000",
        expires="2026-01-01T00:00:00Z",
    )
)


class TemporaryKeys:
    """Identities by key, packed. The least recently used are the first.

    Keys that are deleted, or can be asked for again, count as expired.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        #: In the order of their last use, except those in `_unpacked`, whose use is later.
        self._packed: dict[str, bytes] = {}
        self._unpacked: dict[str, Identity] = {}
        #: The start of the newest session: a clock, because others are forgotten at such starts.
        self._newest = 0
        #: Unexpired keys that were forgotten.
        self.forgotten_live = 0

    def __len__(self) -> int:
        return len(self._packed)

    def __contains__(self, key: str) -> bool:
        return key in self._packed

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def put(self, identity: Identity) -> None:
        """Adds an identity; a key has only the newest."""
        key, begun = identity.access_key_id, _seconds(_begun(identity))
        self._newest = max(self._newest, begun)
        self._packed.pop(key, None)
        self._packed[key] = _pack(identity, begun)
        self._use(identity)

    def use(self, key: str) -> Identity | None:
        """Returns the identity of a key that is in use."""
        identity = self._unpacked.pop(key, None) or self.read(key)
        if identity is not None:
            self._use(identity)
        return identity

    def read(self, key: str) -> Identity | None:
        """Returns the identity of a key, which does not count as a use."""
        packed = self._packed.get(key)
        return self._unpacked.get(key) or (_unpack(packed) if packed else None)

    def of_users(self) -> list[Identity]:
        """Returns the identities of IAM users."""
        return [_unpack(packed) for packed in self._packed.values() if packed[_HEAD_BYTES - 1]]

    def sort(self) -> None:
        """Orders the keys by their expiry, after a start: their use is unknown."""
        self._unpacked.clear()
        self._packed = dict(sorted(self._packed.items(), key=lambda item: item[1][:4]))

    def forget(self) -> list[str]:
        """Forgets a tenth of the keys if there are too many, and returns these.

        Expired keys are forgotten first, then the least recently used.
        """
        if len(self._packed) <= self._most:
            return []
        for key in self._unpacked:
            self._packed[key] = self._packed.pop(key)
        count, now = len(self._packed) - self._most * 9 // 10, self._newest.to_bytes(4, "big")
        expired = (key for key, packed in self._packed.items() if packed[:4] <= now)
        forgotten = dict.fromkeys(islice(expired, count))
        live = (key for key in self._packed if key not in forgotten)
        oldest = list(islice(live, count - len(forgotten)))
        self.forgotten_live += len(oldest)
        keys = [*forgotten, *oldest]
        for key in keys:
            del self._packed[key]
            self._unpacked.pop(key, None)
        return keys

    def _use(self, identity: Identity) -> None:
        self._unpacked.pop(identity.access_key_id, None)
        self._unpacked[identity.access_key_id] = identity
        if len(self._unpacked) > _MAX_UNPACKED:
            oldest = next(iter(self._unpacked))
            del self._unpacked[oldest]
            self._packed[oldest] = self._packed.pop(oldest)


def _begun(identity: Identity) -> str:
    """Returns when a session began, '' of other identities."""
    session = as_object(identity.user_identity.get("sessionContext"))
    return str(as_object(session.get("attributes")).get("creationDate", ""))


def _seconds(time: str) -> int:
    try:
        seconds = int(datetime.fromisoformat(time).timestamp())
    except (ValueError, OverflowError):
        return 0
    return min(max(seconds, 0), 2**32 - 1 - _MAX_SESSION_SECONDS)


def _pack(identity: Identity, begun: int) -> bytes:
    is_live = identity.deleted_by is None and identity.learned_from is not None
    expires = _seconds(identity.expires or "") or begun + _MAX_SESSION_SECONDS
    is_user = identity.user_identity.get("type") == "IAMUser"
    head = (expires if is_live else 0).to_bytes(4, "big") + bytes([is_user])
    packer = zlib.compressobj(6, zlib.DEFLATED, _WINDOW_BITS, 1, zlib.Z_DEFAULT_STRATEGY, _SAMPLE)
    return head + packer.compress(_encoder.encode(identity)) + packer.flush()


def _unpack(packed: bytes) -> Identity:
    unpacker = zlib.decompressobj(_WINDOW_BITS, _SAMPLE)
    return _decoder.decode(unpacker.decompress(packed[_HEAD_BYTES:]))
