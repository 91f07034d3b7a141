"""Finds out what answers behind an upstream, and whom it sees behind an access key."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

from opentrail.adapters.aws.probe import (
    AWS,
    AWS_EMULATOR,
    CallerIdentity,
    Kind,
    Probe,
    caller_identity,
)
from opentrail.core.identity import Learned, account_of_key, identity_by_arn, key_for_account
from opentrail.core.text import printable
from opentrail.identity.known_identities import Identities
from opentrail.settings import Settings
from opentrail.wire.resign import UpstreamCredentials

#: A key id that every emulator knows, by which it is asked for its default account.
_ANY = "test"
#: Seconds between two attempts to learn the account of an upstream that does not answer.
_ACCOUNT_RETRY_SECONDS = 2.0
#: Maximum seconds for an answer: an emulator may load a service at its first call.
_ANSWER_SECONDS = 8.0


class UpstreamCallers:
    """Learns from an upstream that checks no signatures whom it sees behind an access key.

    An AWS Emulator is asked with its own key. Others are not asked: they could take a question that
    is not validly signed for an attack.

    Args:
        settings: name the upstream.
        identities: learn what it says.
    """

    def __init__(self, settings: Settings, identities: Identities) -> None:
        self._identities = identities
        url = settings.upstream.get("sts") or settings.upstream.get("")
        is_asked = settings.upstream_check == "on" and settings.auth == "permissive"
        self._probe = Probe(url, settings.upstream_ca) if url and is_asked else None
        self._kind: Kind | None = None
        self._is_recognized = self._probe is None
        self._asking: dict[str, asyncio.Task[bool]] = {}
        #: Whom the upstream sees behind a key that it does not know; None: it does not say.
        self.default: CallerIdentity | None = None

    @property
    def asks(self) -> bool:
        """Whether the upstream may be one that can be asked."""
        return self._probe is not None

    async def name(self, access_key_id: str) -> bool:
        """Returns once the caller behind a key is learned; False if the upstream is out of reach.

        Concurrent calls of one key ask once.
        """
        if access_key_id == key_for_account(account_of_key(access_key_id) or "0"):
            return True  # the key of opentrail's own calls
        task = self._asking.get(access_key_id)
        if task is None:
            task = asyncio.ensure_future(self._name(access_key_id))
            self._asking[access_key_id] = task
            task.add_done_callback(lambda _: self._asking.pop(access_key_id, None))
        return await asyncio.shield(task)

    async def learn_account(self) -> None:
        """Returns once the upstream's account is known, or it turned out that it cannot be asked.

        Until then the account of an earlier start counts.
        """
        while not await self.try_account():  # noqa: ASYNC110 - nothing says when it starts
            await asyncio.sleep(_ACCOUNT_RETRY_SECONDS)

    async def try_account(self) -> bool:
        """Learns the upstream's account; returns whether it answered."""
        try:
            caller = await self._ask(_ANY)
        except OSError:
            return False
        if caller is not None:
            self.default = caller
            await self._identities.know_account(caller.account)
        return True

    async def _name(self, access_key_id: str) -> bool:
        try:
            caller = await self._ask(access_key_id)
        except OSError:
            return False
        if caller is not None:
            identity = identity_by_arn(access_key_id, caller.arn, caller.user_id)
            if identity is not None and self._identities.is_stranger(access_key_id):
                await self._identities.take(Learned((identity,)))
        return True

    async def _ask(self, access_key_id: str) -> CallerIdentity | None:
        """Returns whom the upstream sees behind a key; None if it does not say.

        Raises:
            OSError: it is out of reach.
        """
        probe = self._probe
        if probe is None:
            return None
        if not self._is_recognized:
            kind, answer = await asyncio.to_thread(probe.kind)
            if answer.failure is not None:
                raise ConnectionError(answer.failure)
            self._kind, self._is_recognized = kind, True
        key = self._key_to_ask_with(probe, access_key_id)
        if key is None:
            return None
        context = probe.context()
        return await asyncio.to_thread(caller_identity, probe.url, key, context, _ANSWER_SECONDS)

    def _key_to_ask_with(self, probe: Probe, access_key_id: str) -> UpstreamCredentials | None:
        emulator = probe.folder
        if emulator is not None and emulator.is_there and (own := emulator.key()) is not None:
            return own if access_key_id == _ANY else emulator.key_for(access_key_id)
        if self._kind is None or not (self._kind.names_any_key or self._kind is AWS_EMULATOR):
            return None
        return UpstreamCredentials(access_key_id, access_key_id)


class UpstreamCheck:
    """Asks every upstream in a thread; `lines` waits for the answers.

    Args:
        settings: name the upstreams, and the authorities of their certificates.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        urls = dict.fromkeys(settings.upstream.values())
        threads = ThreadPoolExecutor(max(1, min(8, len(urls))), "upstream-check")
        self._found: dict[str, Future[str]] = {
            url: threads.submit(self._describe, url) for url in urls
        }
        threads.shutdown(wait=False)

    def lines(self) -> list[str]:
        """Returns a line for each upstream: what it is, and what it does with signatures."""
        lines = []
        for service, url in sorted(self._settings.upstream.items()):
            access = self._settings.access.get(service)
            answer = self._found[url].result()
            if access is not None and access.resign and answer.startswith(f"{AWS.name};"):
                answer = "AWS; calls are signed again for it"
            lines.append(f"{service}={url}  {answer}" if service else f"{url}  {answer}")
        return lines

    def _describe(self, url: str) -> str:
        kind, answer = Probe(url, self._settings.upstream_ca).kind()
        if answer.failure is not None:
            return f"nothing answers yet ({printable(answer.failure)}); until then calls get 502"
        if kind is None:
            server = answer.headers.get("server")
            return f"answers ({printable(server)})" if server else "answers"
        return f"{kind.name}; {kind.signatures}"
