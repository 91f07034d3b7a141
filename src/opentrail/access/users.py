"""Users of the web console: their roles, and the passwords they sign in with."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import unicodedata
from collections import Counter, OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import IntEnum
from weakref import WeakValueDictionary

import msgspec

from opentrail.core.errors import (
    Conflict,
    PasswordChangeNeeded,
    SignInRefused,
    TooManyTries,
    UsageError,
)
from opentrail.core.event import Json, is_account
from opentrail.core.identity import iam_user
from opentrail.ports.clock import Clock
from opentrail.ports.collection import Codec, Collection, Item
from opentrail.ports.control import ControlStore, Document, Stored

#: The user of a session that a one-time link began.
OPERATOR = "operator"
#: Maximum attempts to sign in with one name from one address in a period. An IPv6 address counts
#: as its /64.
MAX_TRIES = 5
#: Maximum attempts to sign in with any name from one address in a period.
MAX_TRIES_OF_ADDRESS = 20
TRIES_PERIOD = timedelta(minutes=1)
#: Maximum passwords that wait to be checked, of one address and of all; further sign-ins are
#: refused. Addresses take turns, so that many attempts from one delay no other.
MAX_WAITING_OF_ADDRESS, MAX_WAITING = 8, 64
#: Characters.
MIN_PASSWORD_LENGTH = 12
#: Characters.
MAX_PASSWORD_LENGTH = 1_024

_KIND = "console-user"
#: As IAM's user names.
_NAME = re.compile(r"[A-Za-z0-9+=,.@_-]{1,64}")
#: Maximum characters of a name in the counts of attempts: more than a user's name has.
_MAX_NAME_LENGTH = 65
_WORDS = re.compile("[a-z]{1,20}")
#: Maximum addresses, and pairs of name and address, with counted attempts; the oldest are dropped.
_MAX_COUNTED = 10_000
#: Hashes that are computed concurrently; each needs 32 MiB.
_MAX_CONCURRENT_HASHES = 2
_SALT_BYTES = 16
_HASH_BYTES = 32


HasLeft = Callable[[], Awaitable[bool]]


async def _stays() -> bool:
    return False


class ConsoleRole(IntEnum):
    """The rights of a user; each role has all rights of the lesser roles."""

    VIEWER = 1
    AUDITOR = 2
    OPERATOR = 3
    ADMIN = 4

    @classmethod
    def parse(cls, text: object) -> ConsoleRole:
        """Returns the role of a name.

        Raises:
            UsageError: there is no such role.
        """
        if isinstance(text, str) and _WORDS.fullmatch(text) and text.upper() in cls.__members__:
            return cls[text.upper()]
        names = ", ".join(str(role) for role in cls)
        raise UsageError(f"role must be one of {names}, not {text!r}")

    def __str__(self) -> str:
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class ConsoleUser:
    """A user of the web console."""

    name: str
    role: ConsoleRole
    #: Ids of the accounts whose events the user may see; None: all.
    accounts: tuple[str, ...] | None
    created: datetime
    is_active: bool
    #: Whether the password is a one-time password from an administrator.
    must_change_password: bool


@dataclass(frozen=True, slots=True)
class ScryptCost:
    """The parameters of scrypt (RFC 7914); 128 * n * r bytes are needed."""

    n: int = 2**15
    r: int = 8
    p: int = 1


class ConsoleUsers:
    """The users in a control store.

    Changes are compare-and-set, so that several processes may make them concurrently. Sign-in
    attempts are counted in memory.
    """

    def __init__(self, control: ControlStore, clock: Clock, cost: ScryptCost | None = None) -> None:
        missing = "not found; 'opentrail users list' shows all"
        self._users = Collection(control, _KIND, Codec(_user_of, _document_of), "user", missing)
        self._cost = cost or ScryptCost()
        self._tries = Tries(clock)
        self._clock = clock
        self._turn = asyncio.Semaphore(_MAX_CONCURRENT_HASHES)
        #: Sign-ins that wait for their turn, and a lock per address, by network.
        self._waiting: Counter[str] = Counter()
        self._queues: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        #: The hash for passwords of unknown users, so that the response time is the same.
        self._decoy = _document_without_password(self._cost)

    async def create(
        self, name: str, role: ConsoleRole, accounts: Iterable[str] | None = None
    ) -> tuple[ConsoleUser, str]:
        """Creates a user, and returns it with the password for its first sign-in.

        Raises:
            UsageError: the name or an account id is not valid, or the user exists.
        """
        _check_name(name)
        now = self._clock.now().replace(microsecond=0)
        user = ConsoleUser(name, role, _valid_accounts(accounts), now, True, True)
        password = _one_time_password()
        hashed = {"password": await self._hash(password)}
        try:
            await self._users.apply([self._users.addition(name, user, hashed)])
        except Conflict as error:
            raise UsageError(f"there is a user {name!r} already") from error
        return user, password

    async def all(self) -> list[ConsoleUser]:
        """Returns the users, by name."""
        return await self._users.all()

    async def find(self, name: str) -> ConsoleUser | None:
        """Returns the user with a name; None without one."""
        item = await self._users.find(name)
        return item.value if item else None

    async def disable(self, name: str) -> ConsoleUser:
        """Disables a user.

        Raises:
            UsageError: there is no such user.
        """
        return await self._users.change(name, lambda user: replace(user, is_active=False))

    async def enable(self, name: str) -> ConsoleUser:
        """Enables a user.

        Raises:
            UsageError: there is no such user.
        """
        return await self._users.change(name, lambda user: replace(user, is_active=True))

    async def delete(self, name: str) -> None:
        """Removes a user.

        Raises:
            UsageError: there is no such user.
        """
        await self._users.delete(name)

    async def reset_password(self, name: str) -> tuple[ConsoleUser, str]:
        """Replaces a user's password by one for its next sign-in, and returns both.

        Raises:
            UsageError: there is no such user.
        """
        password = _one_time_password()
        hashed = {"password": await self._hash(password)}
        user = await self._users.change(
            name, lambda user: replace(user, must_change_password=True), hashed
        )
        return user, password

    async def sign_in(
        self,
        name: str,
        password: str,
        address: str,
        new_password: str | None = None,
        has_left: HasLeft = _stays,
    ) -> ConsoleUser:
        """Returns the user of a name and password; a new password replaces it.

        An unknown or disabled user gets the same answer as a wrong password, after the same time.

        Args:
            name: the user's name.
            password: its password.
            address: the IP address of the caller.
            new_password: replaces the password.
            has_left: whether the caller no longer waits for the answer.

        Raises:
            TooManyTries: as `MAX_TRIES`, `MAX_TRIES_OF_ADDRESS` and `MAX_WAITING` say, or the
                caller has left; the password was not checked.
            SignInRefused: the name or the password is wrong, or the user is disabled.
            PasswordChangeNeeded: it is a single-use password: a new one must be given.
            UsageError: the new password is not acceptable.
        """
        network = _network_of(address)
        is_full = self._waiting[network] >= MAX_WAITING_OF_ADDRESS
        if is_full or self._waiting.total() >= MAX_WAITING:
            raise TooManyTries("Too many people are signing in: try again in a few seconds.")
        self._tries.count(name, address)
        self._waiting[network] += 1
        try:
            item = await self._users.find(name) if _NAME.fullmatch(name) else None
            async with self._queues.setdefault(network, asyncio.Lock()):
                await self._turn.acquire()
        finally:
            self._waiting[network] -= 1
            self._waiting += Counter()  # drops those without any
        try:
            if await has_left():
                raise TooManyTries("The caller has left.")
            document = item.stored.document["password"] if item else self._decoy
            is_right = await asyncio.to_thread(_matches, password, document)
        finally:
            self._turn.release()
        if item is None or not is_right or not item.value.is_active:
            raise SignInRefused("The user name or the password is wrong.", item is not None)
        self._tries.forget(name, address)
        if new_password is not None:
            return await self._replace_password(item, password, new_password)
        if item.value.must_change_password:
            raise PasswordChangeNeeded("This password works once: choose your own.")
        return item.value

    async def _replace_password(self, item: Item[ConsoleUser], old: str, new: str) -> ConsoleUser:
        _check_password(item.value.name, old, new)
        user = replace(item.value, must_change_password=False)
        hashed = {"password": await self._hash(new)}
        try:
            await self._users.apply([self._users.replacement(item, user, hashed)])
        except Conflict as error:
            raise SignInRefused("The user has changed: sign in again.", True) from error
        return user

    async def _hash(self, password: str) -> Document:
        async with self._turn:
            return await asyncio.to_thread(_password_document, password, self._cost)


class Tries:
    """When each address, with each name, recently tried to sign in."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._times: OrderedDict[tuple[str, ...], deque[datetime]] = OrderedDict()

    def count(self, name: str, address: str) -> None:
        """Counts an attempt, before anything is done for it.

        Raises:
            TooManyTries: the period had its maximum of attempts already.
        """
        now = self._clock.now()
        pair, alone = _counter_keys(name, address)
        for key, most in ((pair, MAX_TRIES), (alone, MAX_TRIES_OF_ADDRESS)):
            times = self._times.get(key, ())
            if sum(time > now - TRIES_PERIOD for time in times) >= most:
                raise TooManyTries(f"At most {most} attempts per minute: wait a minute.")
        for key in (pair, alone):
            times = self._times.setdefault(key, deque(maxlen=MAX_TRIES_OF_ADDRESS))
            times.append(now)
            self._times.move_to_end(key)
        while len(self._times) > _MAX_COUNTED:
            self._times.popitem(last=False)

    def forget(self, name: str, address: str) -> None:
        """Forgets the attempts of a pair that has succeeded."""
        pair, alone = _counter_keys(name, address)
        good = len(self._times.pop(pair, ()))
        times = self._times.get(alone, deque())
        for _ in range(min(good, len(times))):
            times.pop()


def identity_of_user(account: str, name: str, subject: tuple[str, str] | None = None) -> Json:
    """Returns the `userIdentity` of a user of the console: an IAM user.

    The path in the ARN distinguishes it from the account's own users. The `principalId` is of the
    issuer and subject of a user who signed in by OpenID Connect, else of the name.
    """
    unique = name if subject is None else json.dumps(subject)
    digest = hashlib.sha256(f"opentrail:{account}:{unique}".encode()).hexdigest()
    arn = f"arn:aws:iam::{account}:user/opentrail/{name}"
    return iam_user(account, name, f"AIDA{digest[:17].upper()}", arn)


def _counter_keys(name: str, address: str) -> tuple[tuple[str, str], tuple[str]]:
    """Returns the keys that count the attempts for a name from an address."""
    network = _network_of(address)
    return (name[:_MAX_NAME_LENGTH], network), (network,)


def _network_of(address: str) -> str:
    """Returns the network that counts as one address."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((ip, 64 if ip.version == 6 else 32), strict=False))


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"name must be 1 to 64 letters, digits and characters of +=,.@_-, not {name!r}"
        )
    if name == OPERATOR:
        raise UsageError(f"the name {OPERATOR} is reserved for sessions that a link opened")


def _valid_accounts(accounts: Iterable[str] | None) -> tuple[str, ...] | None:
    if accounts is None:
        return None
    account_ids = tuple(sorted(set(accounts)))
    for account in account_ids:
        if not is_account(account):
            raise UsageError(f"accounts must be ids of 12 digits, not {account!r}")
    if not account_ids:
        raise UsageError("accounts must be at least one id of 12 digits; leave it out for all")
    return account_ids


def _check_password(name: str, old: str, new: str) -> None:
    if not MIN_PASSWORD_LENGTH <= len(new) <= MAX_PASSWORD_LENGTH:
        raise UsageError(
            f"the new password must have {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters,"
            f" not {len(new)}"
        )
    if _bytes_of(new) == _bytes_of(old):
        raise UsageError("the new password must differ from the old one")
    if name.lower() in new.lower() and len(new) < len(name) + MIN_PASSWORD_LENGTH:
        raise UsageError("the new password must not be made of the user's name")


def _one_time_password() -> str:
    return secrets.token_urlsafe(15)


def _bytes_of(password: str) -> bytes:
    """Returns the bytes to hash: equal for strings that look the same."""
    return unicodedata.normalize("NFKC", password).encode("utf-8", "surrogatepass")


def _password_document(password: str, cost: ScryptCost) -> Document:
    salt = secrets.token_bytes(_SALT_BYTES)
    return _document(cost, salt, _scrypt(password, salt, cost))


def _document_without_password(cost: ScryptCost) -> Document:
    """Returns a hash that no password matches, without the time that hashing one takes."""
    return _document(cost, secrets.token_bytes(_SALT_BYTES), secrets.token_bytes(_HASH_BYTES))


def _document(cost: ScryptCost, salt: bytes, hashed: bytes) -> Document:
    return {"n": cost.n, "r": cost.r, "p": cost.p, "salt": salt.hex(), "hash": hashed.hex()}


def _matches(password: str, document: Document) -> bool:
    cost = ScryptCost(document["n"], document["r"], document["p"])
    hashed = _scrypt(password[: MAX_PASSWORD_LENGTH + 1], bytes.fromhex(document["salt"]), cost)
    return hmac.compare_digest(hashed, bytes.fromhex(document["hash"]))


def _scrypt(password: str, salt: bytes, cost: ScryptCost) -> bytes:
    needed = 128 * cost.r * (cost.n + cost.p + 2)
    return hashlib.scrypt(
        _bytes_of(password),
        salt=salt,
        n=cost.n,
        r=cost.r,
        p=cost.p,
        maxmem=2 * needed,
        dklen=_HASH_BYTES,
    )


def _user_of(stored: Stored) -> ConsoleUser:
    members = {**stored.document, "name": stored.key}
    return msgspec.convert({**members, "role": ConsoleRole.parse(members["role"])}, ConsoleUser)


def _document_of(user: ConsoleUser) -> Document:
    members: Document = {**msgspec.to_builtins(user), "role": str(user.role)}
    del members["name"]
    return members
