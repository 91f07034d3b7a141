"""Identities by access key id: configured in the directory, or learned from recorded calls.

The first call with an unknown key waits for the answer of the other servers, or of the upstream.

"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, islice
from typing import Any

from opentrail.core.errors import OpentrailError
from opentrail.core.event import Entry, Record, as_object
from opentrail.core.event_record import EventRecord
from opentrail.core.identity import (
    DEFAULT_ACCOUNT,
    Identity,
    Learned,
    Renamed,
    account_of_key,
    iam_user,
    learn,
    renamed,
    root,
    unknown,
)
from opentrail.identity.temporary_keys import TemporaryKeys
from opentrail.ports.control import ControlStore, Put, Remove, Stored, StoreWrite
from opentrail.ports.journal import Journal

_IAM = b'"eventSource":"iam.'
_STS = b'"eventSource":"sts.'
#: Kind and key under which the control store has the upstream's account.
_ACCOUNT = ("upstream", "account")
#: The kind of the upstream, as recognized last.
_KIND = ("upstream", "kind")
#: Maximum records without identities that the stored cursor may lag behind.
_CURSOR_LAG = 10_000
#: Records that are processed before other tasks of the loop run.
_YIELD_AFTER = 100
#: Maximum records whose results are remembered until they are stored; others are parsed again.
_MAX_TAUGHT = 20_000
#: Maximum temporary and deleted keys; beyond it, opentrail forgets a tenth. Temporary keys expire
#: after hours on AWS, but not on every emulator, so opentrail does not remove them by age alone.
MAX_SESSIONS = 1_200_000
#: Maximum identities that are read, or removed from the control store, together.
_MAX_TOGETHER = 10_000
#: Maximum users in memory; the others are read from the control store when they get a key.
MAX_USERS = 100_000


class KnownIdentities:
    """The identities that a process knows: configured in the directory, or learned."""

    def __init__(
        self,
        directory: Sequence[Identity] = (),
        most_sessions: int = MAX_SESSIONS,
        most_users: int = MAX_USERS,
    ) -> None:
        self._configured = {identity.access_key_id: identity for identity in directory}
        #: The account of callers whose key names none; None until it is learned.
        self._account: str | None = None
        self._learned: dict[str, Identity] = {}
        self._users: dict[tuple[str, str], tuple[str, str]] = {}
        self._most_users = most_users
        #: Temporary and deleted keys, and keys that no record teaches.
        self._sessions = TemporaryKeys(most_sessions)

    def add_directory(self, directory: Sequence[Identity], removed: Sequence[str] = ()) -> None:
        """Adds configured identities, which take precedence over learned ones; removes others."""
        for access_key_id in removed:
            self._configured.pop(access_key_id, None)
        self._configured.update({identity.access_key_id: identity for identity in directory})

    def resolve(self, access_key_id: str) -> Identity:
        """Returns the configured, else the learned identity of a key, else its decoded account."""
        configured = self._configured.get(access_key_id)
        if configured is not None:
            return self._with_principal(configured)
        learned = self._learned.get(access_key_id) or self._sessions.use(access_key_id)
        if learned is not None:
            return learned
        return unknown(account_of_key(access_key_id) or self.account, access_key_id)

    @property
    def account(self) -> str:
        """The account of callers whose key names none: the upstream's own, once it is known."""
        return self._account or DEFAULT_ACCOUNT

    @property
    def known_account(self) -> str | None:
        """The upstream's own account; None until it is known."""
        return self._account

    def is_stranger(self, access_key_id: str) -> bool:
        """Returns whether nothing is known of a key."""
        is_learned = access_key_id in self._learned or access_key_id in self._sessions
        return not is_learned and access_key_id not in self._configured

    @property
    def problems(self) -> list[str]:
        """What `/health` says of forgotten keys."""
        if not self._sessions.forgotten_live:
            return []
        return [
            f"{self._sessions.forgotten_live} temporary keys were forgotten before they expired: "
            "calls with them are recorded as Unknown"
        ]

    def _find(self, access_key_id: str) -> Identity | None:
        return self._learned.get(access_key_id) or self._sessions.read(access_key_id)

    def _with_principal(self, identity: Identity) -> Identity:
        """Returns an identity of the directory with the recorded id of its user, if known."""
        caller = identity.user_identity
        if caller.get("type") != "IAMUser" or "principalId" in caller:
            return identity
        user = self._users.get((identity.account, str(caller.get("userName"))))
        if user is None:
            return identity
        name, arn = str(caller.get("userName")), caller.get("arn")
        user_identity = iam_user(identity.account, name, user[0], arn)
        complete = replace(identity, user_identity=user_identity)
        self._configured[identity.access_key_id] = complete
        return complete

    def learn(self, record: Record) -> Learned:
        """Learns the identities of a record immediately, for the calls that follow it."""
        taught = learn(record, self._users)
        if taught.account and self._account is not None:
            taught = replace(taught, account="")
        change = renamed(record)
        if change is not None:
            taught = self._rename(change)
        self.absorb(taught)
        return taught

    def _rename(self, change: Renamed) -> Learned:
        """Returns the identities of a user and of all of its keys under another name or path."""
        user = self._users.get((change.account, change.old))
        users = []
        if user is not None:
            users.append((change.account, change.old, "", ""))
            users.append((change.account, change.new, user[0], change.arn(user[1])))
        identities = [
            replace(
                identity,
                user_identity={
                    **identity.user_identity,
                    "arn": change.arn(str(identity.user_identity.get("arn"))),
                    "userName": change.new,
                },
            )
            for identity in chain(self._learned.values(), self._sessions.of_users())
            if identity.account == change.account
            and identity.user_identity.get("type") == "IAMUser"
            and identity.user_identity.get("userName") == change.old
        ]
        return Learned(tuple(identities), tuple(users))

    def absorb(self, taught: Learned) -> None:
        """Adds identities that another process has learned."""
        if taught.account:
            self._account = taught.account
        for account, user, principal_id, arn in taught.users:
            if principal_id:
                self._users[account, user] = (principal_id, arn)
            else:
                self._users.pop((account, user), None)
        self._forget_users()
        for identity in taught.identities:
            self._keep(identity)
        for key_id, event_id in taught.deleted:
            if (known := self._find(key_id)) is not None:
                self._keep(replace(known, deleted_by=event_id))
        self._forget()

    def _keep(self, identity: Identity) -> None:
        is_asked = identity.learned_from is None  # and can be asked again
        if "sessionContext" in identity.user_identity or identity.deleted_by or is_asked:
            self._learned.pop(identity.access_key_id, None)
            self._sessions.put(identity)
        elif identity.access_key_id in self._sessions:
            self._sessions.put(identity)
        else:
            self._learned[identity.access_key_id] = identity

    def _forget(self) -> list[str]:
        """Forgets temporary keys if there are too many, and returns these."""
        return self._sessions.forget()

    def _forget_users(self) -> None:
        if len(self._users) > self._most_users:
            # Ten percent more, so that this is rare.
            for user in list(islice(self._users, len(self._users) - self._most_users * 9 // 10)):
                del self._users[user]

    def parts(self, most: int) -> Iterator[Learned]:
        """Yields all learned identities for another process to absorb, `most` in a part."""
        yield Learned(account=self._account or "")
        users = [(*user, *ids) for user, ids in self._users.items()]
        for start in range(0, len(users), most):
            yield Learned(users=tuple(users[start : start + most]))
        keys = [*self._learned, *self._sessions]
        for start in range(0, len(keys), most):
            identities = map(self._find, keys[start : start + most])
            yield Learned(tuple(identity for identity in identities if identity is not None))


class _Taught:
    """Identities that several records taught: the newest of each user, and the keys."""

    def __init__(self) -> None:
        self.users: dict[tuple[str, str], tuple[str, str]] = {}
        self.keys: dict[str, None] = {}
        self.account = ""

    def add(self, learned: Learned) -> None:
        """Adds the identities of a later record."""
        for account, user, principal_id, arn in learned.users:
            self.users[account, user] = (principal_id, arn)
        for identity in learned.identities:
            self.keys[identity.access_key_id] = None
        for key_id, _ in learned.deleted:
            self.keys[key_id] = None
        self.account = learned.account or self.account


class Identities(KnownIdentities):
    """Learns keys in memory (`learn`), and stores them as a follower of the journal.

    Identities are derived from records alone, so nothing is known that was not recorded.
    """

    name = "identities"

    def __init__(
        self,
        control: ControlStore,
        directory: Sequence[Identity] = (),
        most_sessions: int = MAX_SESSIONS,
        most_users: int = MAX_USERS,
        is_stored: bool = True,
    ) -> None:
        """Starts without known identities.

        Args:
            control: where identities are stored.
            directory: the configured identities.
            most_sessions: maximum temporary and deleted keys in memory.
            most_users: maximum users in memory.
            is_stored: whether this process stores learned identities; else another process does.
        """
        super().__init__(directory, most_sessions, most_users)
        self._control = control
        self._is_stored = is_stored
        self._cursor = self._stored_cursor = 0
        #: Identities of records that are not processed yet, by event id.
        self._taught: dict[str, Learned] = {}
        #: Keys that are forgotten in memory but still stored.
        self._forgotten: list[str] = []
        #: Set when the cursor moves.
        self._moved = asyncio.Event()
        self._share: Callable[[Learned], Awaitable[None]] | None = None

    def share_with(self, share: Callable[[Learned], Awaitable[None]]) -> None:
        """Shares identities that another server has recorded with this server's other processes.

        Args:
            share: returns once they know it.
        """
        self._share = share

    def _forget(self) -> list[str]:
        keys = super()._forget()
        self._forgotten += keys
        return keys

    def learn(self, record: Record) -> Learned:
        """Learns the identities of a record immediately, for the calls that follow it."""
        taught = super().learn(record)
        if taught and len(self._taught) < _MAX_TAUGHT:
            self._taught[record["eventID"]] = taught
        return taught

    async def load(self) -> None:
        """Reads the identities that earlier runs stored."""
        # The cursor first: another server may store some while they are read.
        cursor = await self._control.get("place", self.name)
        self._cursor = self._stored_cursor = cursor.document["position"] if cursor else 0
        if (upstream := await self._control.get(*_ACCOUNT)) is not None:
            self._account = str(upstream.document["account"])
        for stored in await self._control.scan("iam-user"):
            account, _, user = stored.key.partition("/")
            document = stored.document
            self._users[account, user] = (document["principalId"], document["arn"])
        self._forget_users()
        after = ""
        while page := await self._control.page("identity", after, _MAX_TOGETHER):
            for stored in page:
                self._keep(_identity(stored))
            after = page[-1].key
        self._sessions.sort()

    async def know_account(self, account: str) -> None:
        """Stores the account of callers whose key names none, from the upstream's answer."""
        if account != self._account:
            self._account = account
            await self._control.apply([Put(*_ACCOUNT, {"account": account})])
            if self._share is not None:
                await self._share(Learned(account=account))

    async def known_kind(self, url: str) -> str | None:
        """Returns the name of the kind of upstream that a URL had when it was recognized last."""
        stored = await self._control.get(*_KIND)
        return None if stored is None else stored.document.get(url)

    async def know_kind(self, url: str, name: str) -> None:
        """Stores the name of the kind of upstream at a URL."""
        if await self.known_kind(url) != name:
            await self._control.apply([Put(*_KIND, {url: name})])

    async def take(self, taught: Learned) -> None:
        """Adds identities that no record teaches, in all processes of this server."""
        self.absorb(taught)
        if self._share is not None:
            await self._share(taught)

    async def cursor(self) -> int:
        """Returns the last position whose identities are known, and stored if they are."""
        return self._cursor

    async def stored_cursor(self) -> int:
        """Returns the last position whose identities some process has stored."""
        if self._is_stored:
            return self._cursor
        stored = await self._control.get("place", self.name)
        return int(stored.document["position"]) if stored else 0

    async def process(self, entries: Sequence[Entry]) -> None:
        """Stores the identities that the entries teach, together with the cursor."""
        taught = _Taught()
        for number, entry in enumerate(entries):
            if number % _YIELD_AFTER == _YIELD_AFTER - 1:
                await asyncio.sleep(0)  # so that calls do not wait for the batch
            if entry.origin == "import":
                continue
            learned = self._taught.pop(entry.event_id, None)
            if learned is not None:
                taught.add(learned)
            elif may_teach(entry.record):
                learned = super().learn(EventRecord(entry.record).document)
                taught.add(learned)
                if self._share is not None:
                    await self._share(learned)
        await self._add_user_ids(taught)
        if self._is_stored:
            await self._store(taught, entries[-1].position)
        else:
            self._forgotten.clear()
        self._cursor = entries[-1].position
        self._moved.set()
        self._moved = asyncio.Event()

    async def reach(self, position: int) -> None:
        """Returns once the identities up to a position are known."""
        while self._cursor < position:
            await self._moved.wait()

    async def _store(self, taught: _Taught, last: int) -> None:
        changes = list(self._changes(taught))
        forgotten = self._forgotten[:_MAX_TOGETHER]
        changes += [
            Remove("identity", key_id)
            for key_id in dict.fromkeys(forgotten)
            if self._find(key_id) is None
        ]
        if changes or last - self._stored_cursor >= _CURSOR_LAG:
            cursor = Put("place", self.name, {"position": last})
            await self._control.apply([*changes, cursor])
            self._stored_cursor = last
            del self._forgotten[: len(forgotten)]

    async def _add_user_ids(self, taught: _Taught) -> None:
        """Gives new keys of users who are only in the store the ids and ARNs of these users."""
        for key_id in taught.keys:
            identity = self._find(key_id)
            if identity is None or identity.user_identity.get("type") != "IAMUser":
                continue
            user = identity.user_identity.get("userName")
            if "principalId" in identity.user_identity or (identity.account, user) in taught.users:
                continue
            stored = await self._control.get("iam-user", f"{identity.account}/{user}")
            if stored is not None:
                document = stored.document
                user_identity = iam_user(
                    identity.account, str(user), document["principalId"], document["arn"]
                )
                self._keep(replace(identity, user_identity=user_identity))

    def _changes(self, taught: _Taught) -> Iterator[StoreWrite]:
        if taught.account:
            yield Put(*_ACCOUNT, {"account": taught.account})
        for (account, user), (principal_id, arn) in taught.users.items():
            key = f"{account}/{user}"
            if principal_id:
                yield Put("iam-user", key, {"principalId": principal_id, "arn": arn})
            else:
                yield Remove("iam-user", key)
        for key_id in taught.keys:
            identity = self._find(key_id)
            if identity is None:
                continue
            document = {
                "account": identity.account,
                "userIdentity": dict(identity.user_identity),
                "learnedFrom": identity.learned_from,
                "deletedBy": identity.deleted_by,
                "agentTag": identity.agent_tag,
                "transitiveTags": dict(identity.transitive_tags),
                "expires": identity.expires,
            }
            yield Put("identity", key_id, document)


def _identity(stored: Stored) -> Identity:
    document = stored.document
    return Identity(
        stored.key,
        document["account"],
        document["userIdentity"],
        document["learnedFrom"],
        document.get("deletedBy"),
        document.get("agentTag"),
        as_object(document.get("transitiveTags")),
        document.get("expires"),
    )


def may_teach(record: bytes) -> bool:
    """Returns whether a record may teach identities, without parsing it."""
    return _IAM in record or _STS in record


def directory_identities(entries: Mapping[str, Mapping[str, Any]]) -> list[Identity]:
    """Returns the identities of a directory file (`[directory.ACCESS-KEY-ID]` tables).

    A table has `user` (an IAM user's name) or `root = true`, and may have `account`, `arn`,
    `principal_id`.
    """
    identities = []
    for key_id, entry in entries.items():
        account = str(entry.get("account") or account_of_key(key_id) or DEFAULT_ACCOUNT)
        if entry.get("root"):
            user_identity = root(account)
        else:
            user_identity = iam_user(
                account, str(entry["user"]), entry.get("principal_id"), entry.get("arn")
            )
        identities.append(Identity(key_id, account, user_identity))
    return identities


log = logging.getLogger(__name__)

#: Returns once this process has learned from the other servers, or the upstream, about a key; False
#: if they could not say.
CatchUp = Callable[[str], Awaitable[bool]]

#: Maximum seconds that a call waits for it.
_NEWCOMER_SECONDS = 5.0
#: Maximum unknown keys that are remembered, so that their later calls do not wait.
_MAX_STRANGERS = 10_000
#: Maximum characters of a key: callers may send any text as one, and no record has more of it.
_MAX_KEY_LENGTH = 1_024


class Newcomers:
    """Makes the first call of an unknown key wait for the other servers or the upstream."""

    def __init__(self, identities: KnownIdentities, catch_up: CatchUp) -> None:
        self._identities = identities
        self._catch_up = catch_up
        self._strangers: dict[str, None] = {}

    def meet(self, access_key_id: str) -> Awaitable[None] | None:
        """Returns the wait for others' answer about a key; None if no question is needed."""
        if not self._identities.is_stranger(access_key_id) or access_key_id in self._strangers:
            return None
        return self._ask(access_key_id) if len(access_key_id) <= _MAX_KEY_LENGTH else None

    async def _ask(self, access_key_id: str) -> None:
        try:
            async with asyncio.timeout(_NEWCOMER_SECONDS):
                if not await self._catch_up(access_key_id):
                    return
        except (OpentrailError, OSError, TimeoutError) as error:
            reason = str(error) or "it takes too long"
            log.warning(
                "identities known to other servers could not be loaded", extra={"reason": reason}
            )
            return
        if self._identities.is_stranger(access_key_id):
            if len(self._strangers) >= _MAX_STRANGERS:
                del self._strangers[next(iter(self._strangers))]
            self._strangers[access_key_id] = None


async def know_all(journal: Journal, identities: Identities, _access_key_id: str = "") -> bool:
    """Returns once this process knows the identities of all records any server had at the call.

    Raises:
        StorageFailed: the journal cannot determine these records.
    """
    await identities.reach(await journal.newest())
    return True
