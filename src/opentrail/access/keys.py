"""The key directory: access keys whose secrets opentrail knows, to verify signatures with.

It is separate from `identity`, which learns from records whose a key is, and knows no
secrets. Here is decided who may call.
"""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from opentrail.core.errors import Conflict, UsageError
from opentrail.core.event import Json, format_time, parse_time
from opentrail.core.identity import Identity, iam_user, key_for_account, root
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, KnownCollection, retry_on_conflict
from opentrail.ports.control import ControlStore, Document, Put, Stored
from opentrail.ports.signer import Sealer
from opentrail.wire.verification import SigningSecret

KEY_KIND = "access-key"
#: A user, the root user, a role session or a federated user.
_PRINCIPAL = re.compile(
    r"arn:aws[a-z-]*:(?:iam::([0-9]{12}):(?:user/\S+|root)"
    r"|sts::([0-9]{12}):(?:assumed-role|federated-user)/\S+)"
)
_KEY_ID = re.compile("[A-Za-z0-9_]{3,128}")


@dataclass(frozen=True, slots=True)
class AccessKey:
    """An access key, without its secret."""

    access_key_id: str
    #: ARN of the user, of the root user, of the role session or of the federated user.
    principal: str
    account: str
    created: datetime
    is_active: bool
    #: Time at which the key, or its session token, expires; None if never.
    expires: datetime | None
    is_temporary: bool


@dataclass(frozen=True, slots=True)
class NewKey:
    """A new key, with the secrets that are shown only once."""

    key: AccessKey
    secret_access_key: str
    session_token: str | None

    def __repr__(self) -> str:
        """Leaves the secrets out, as it may be logged."""
        return f"NewKey({self.key!r})"


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key's owner and secret, for the recorder."""

    identity: Identity
    secret: SigningSecret

    @property
    def is_named(self) -> bool:
        """Whether its owner is known, and not only its account."""
        return self.identity.user_identity.get("type") != "Unknown"


class KnownKeys:
    """The keys that a process knows, in memory."""

    def __init__(self) -> None:
        self._keys: dict[str, KnownKey] = {}

    def update(self, keys: Iterable[KnownKey], forgotten: Iterable[str] = ()) -> list[Identity]:
        """Adds and removes keys.

        Returns:
            The identities of the keys whose owners are known.
        """
        keys = list(keys)
        self._keys.update({key.identity.access_key_id: key for key in keys})
        for access_key_id in forgotten:
            self._keys.pop(access_key_id, None)
        return [key.identity for key in keys if key.is_named]

    def all(self) -> list[KnownKey]:
        """Returns the keys."""
        return list(self._keys.values())

    def find(self, access_key_id: str) -> SigningSecret | None:
        """Returns the secret that verifies a signature of the key."""
        key = self._keys.get(access_key_id)
        return key.secret if key else None


class KeyDirectory:
    """The access keys in a control store.

    `find` answers from memory; `load` reads other processes' changes. Changes are
    compare-and-set, so that several processes may make them concurrently.
    """

    def __init__(self, control: ControlStore, sealer: Sealer, clock: Clock) -> None:
        self._sealer = sealer
        self._clock = clock
        codec, missing = Codec(_key_of, _document_of), "not found; 'opentrail keys list' shows all"
        self._keys: KnownCollection[AccessKey, KnownKey] = KnownCollection(
            control, KEY_KIND, codec, "access key", missing, view=self._unseal
        )

    async def load(self) -> set[str]:
        """Reads all keys; returns the ids of the changed keys.

        Raises:
            StorageFailed: a secret cannot be unsealed, such as with another master key.
        """
        return await self._keys.load()

    def find(self, access_key_id: str) -> SigningSecret | None:
        """Returns the secret that verifies a signature of the key."""
        key = self._keys.known.get(access_key_id)
        return key.secret if key else None

    def all(self) -> dict[str, KnownKey]:
        """Returns all keys by id, as of the last `load` and the changes made here since."""
        return dict(self._keys.known)

    async def create(self, principal: str, lifetime: timedelta | None = None) -> NewKey:
        """Creates a key: a long-term one, or with a lifetime a temporary one with a session token.

        Raises:
            UsageError: the principal is not an ARN of one, or the lifetime is not positive.
        """
        account = _account_of(principal)
        if lifetime is not None and lifetime <= timedelta(0):
            raise UsageError("the lifetime of an access key must be positive")

        async def attempt() -> NewKey:
            new = self._new_key(principal, account, lifetime)
            await self._keys.apply([self._addition(new)])
            return new

        return await retry_on_conflict(attempt, "no unused access key id was found; try again")

    async def import_key(
        self,
        access_key_id: str,
        secret_access_key: str,
        principal: str,
        session_token: str | None = None,
        expires: datetime | None = None,
    ) -> AccessKey:
        """Stores a key that was made elsewhere.

        Raises:
            UsageError: a part is not valid, or the key is in the directory already.
        """
        if not _KEY_ID.fullmatch(access_key_id):
            raise UsageError("an access key id is 3 to 128 letters, digits and underscores")
        if not secret_access_key or not secret_access_key.isascii():
            raise UsageError("a secret access key must be non-empty ASCII")
        key = AccessKey(
            access_key_id,
            principal,
            _account_of(principal),
            self._now(),
            True,
            expires,
            session_token is not None,
        )
        new = NewKey(key, secret_access_key, session_token)
        try:
            await self._keys.apply([self._addition(new)])
        except Conflict as error:
            raise UsageError(f"access key {access_key_id} is in the directory already") from error
        return key

    async def list_keys(
        self, account: str | None = None, principal: str | None = None
    ) -> list[AccessKey]:
        """Returns the keys, of one account or principal, by id."""
        return [
            key
            for key in await self._keys.all()
            if account in (None, key.account) and principal in (None, key.principal)
        ]

    async def disable(self, access_key_id: str) -> AccessKey:
        """Disables a key: its signatures are refused.

        Raises:
            UsageError: there is no such key.
        """
        return await self._keys.change(access_key_id, lambda key: replace(key, is_active=False))

    async def enable(self, access_key_id: str) -> AccessKey:
        """Enables a key.

        Raises:
            UsageError: there is no such key.
        """
        return await self._keys.change(access_key_id, lambda key: replace(key, is_active=True))

    async def delete(self, access_key_id: str) -> None:
        """Removes a key.

        Raises:
            UsageError: there is no such key.
        """
        await self._keys.delete(access_key_id)

    async def rotate(self, access_key_id: str, overlap: timedelta = timedelta(0)) -> NewKey:
        """Creates a new key of the same principal; the old one is disabled, or expires later.

        If two rotate a key concurrently, one succeeds.

        Raises:
            UsageError: there is no such key, it is temporary, disabled or rotated already.
        """

        async def attempt() -> NewKey:
            stored = await self._keys.get(access_key_id)
            old = stored.value
            _refuse_rotation(old)
            new = self._new_key(old.principal, old.account, None)
            if overlap > timedelta(0):
                old = replace(old, expires=self._now() + overlap)
            else:
                old = replace(old, is_active=False)
            change = self._keys.replacement(stored, old)
            await self._keys.apply([self._addition(new), change])
            return new

        return await self._keys.retry(access_key_id, attempt)

    def _now(self) -> datetime:
        return self._clock.now().replace(microsecond=0)

    def _new_key(self, principal: str, account: str, lifetime: timedelta | None) -> NewKey:
        now = self._now()
        is_temporary = lifetime is not None
        key = AccessKey(
            key_for_account(account, "ASIA" if is_temporary else "AKIA", secrets.token_bytes(4)),
            principal,
            account,
            now,
            True,
            None if lifetime is None else now + lifetime,
            is_temporary,
        )
        token = _random_text(192) if is_temporary else None
        return NewKey(key, _random_text(30), token)

    def _addition(self, new: NewKey) -> Put:
        """Returns the change that adds a key; it fails if a key has its id already."""
        key_id, token = new.key.access_key_id, new.session_token
        sealed = {
            "secret": self._sealer.seal(new.secret_access_key.encode(), _context(key_id)),
            "token_sha256": hashlib.sha256(token.encode()).hexdigest() if token else None,
        }
        return self._keys.addition(key_id, new.key, sealed)

    def _unseal(self, access_key_id: str, document: Mapping[str, Any]) -> KnownKey:
        plain = self._sealer.unseal(document["secret"], _context(access_key_id))
        token, expires = document["token_sha256"], document["expires"]
        secret = SigningSecret(
            plain.decode(),
            bytes.fromhex(token) if token else None,
            parse_time(expires) if expires else None,
            document["is_active"],
        )
        return KnownKey(identity_of(access_key_id, document["principal"]), secret)


def identity_of(access_key_id: str, principal: str) -> Identity:
    """Returns the identity of a key of a principal.

    Raises:
        UsageError: the principal is not an ARN of one.
    """
    account = _account_of(principal)
    kind, _, name = principal.split(":", 5)[5].partition("/")
    user_identity: Json
    if kind == "root":
        user_identity = root(account)
    elif kind == "user":
        user_identity = iam_user(account, name.rpartition("/")[2], None, principal)
    elif kind == "federated-user":
        principal_id = f"{account}:{name}"
        user_identity = {"type": "FederatedUser", "principalId": principal_id, "arn": principal}
        user_identity["accountId"] = account
    else:
        role = name.partition("/")[0]
        partition = principal.split(":", 2)[1]
        issuer = {
            "type": "Role",
            "arn": f"arn:{partition}:iam::{account}:role/{role}",
            "accountId": account,
            "userName": role,
        }
        user_identity = {"type": "AssumedRole", "arn": principal, "accountId": account}
        user_identity["sessionContext"] = {"sessionIssuer": issuer}
    return Identity(access_key_id, account, user_identity)


def _refuse_rotation(key: AccessKey) -> None:
    if key.is_temporary:
        raise UsageError(f"access key {key.access_key_id} is temporary; create a new one")
    if not key.is_active or key.expires is not None:
        raise UsageError(
            f"access key {key.access_key_id} is disabled or was rotated; rotate an active key"
        )


def _account_of(principal: str) -> str:
    match = _PRINCIPAL.fullmatch(principal)
    if match is None:
        raise UsageError(
            f"{principal!r} is not a principal: arn:aws:iam::ACCOUNT:user/NAME, "
            "arn:aws:iam::ACCOUNT:root or arn:aws:sts::ACCOUNT:assumed-role/ROLE/SESSION"
        )
    return str(match[1] or match[2])


def _context(access_key_id: str) -> str:
    """Returns the context to which a sealed secret is bound."""
    return f"access key {access_key_id}"


def _random_text(count: int) -> str:
    """Returns base64 of random bytes, without padding if there are a multiple of three."""
    return base64.b64encode(secrets.token_bytes(count)).decode()


def _key_of(stored: Stored) -> AccessKey:
    document = stored.document
    expires = document["expires"]
    return AccessKey(
        stored.key,
        document["principal"],
        _account_of(document["principal"]),
        parse_time(document["created"]),
        document["is_active"],
        parse_time(expires) if expires else None,
        document["token_sha256"] is not None,
    )


def _document_of(key: AccessKey) -> Document:
    return {
        "principal": key.principal,
        "created": format_time(key.created),
        "is_active": key.is_active,
        "expires": format_time(key.expires) if key.expires else None,
    }
