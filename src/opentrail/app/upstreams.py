"""The route of opentrail's traffic to its upstreams, their kinds, and the identities they see."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from opentrail.access.keys import KnownKey
from opentrail.access.users import identity_of_user
from opentrail.adapters.aws.emulator_folder import EmulatorFolder, folder_of
from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.probe import (
    AWS,
    AWS_EMULATOR,
    KINDS_BY_NAME,
    CallerIdentity,
    Kind,
    Probe,
    caller_identity,
)
from opentrail.capture.proxy.upstream import Upstream, at
from opentrail.core.identity import (
    DEFAULT_ACCOUNT,
    Identity,
    Learned,
    account_of_key,
    identity_by_arn,
    key_for_account,
)
from opentrail.core.text import printable
from opentrail.identity.known_identities import Identities
from opentrail.settings import Settings, UpstreamAccess
from opentrail.wire.resign import UpstreamCredentials
from opentrail.wire.routing import is_function_host
from opentrail.wire.sigv4 import Credential
from opentrail.wire.verification import SigningSecret

#: User name in records of the console's calls to services, when signatures are verified.
OWN_USER = "opentrail-console"

#: Credentials for upstreams that check no signatures.
_PLACEHOLDER = UpstreamAccess("opentrail", "opentrail")


def store_access(settings: Settings) -> S3Access:
    """Returns access to S3, in the Region of its credentials, else in us-east-1."""
    return service_access(settings, "s3", own_region(settings))


def has_own_rights(settings: Settings) -> bool:
    """Returns whether S3's upstream knows opentrail by its credentials."""
    return _credentials(settings) is not None


def own_region(settings: Settings) -> str:
    """Returns the Region of the server's own calls: the Region of the credentials for S3."""
    access = _credentials(settings)
    return access.region if access and access.region else "us-east-1"


def emulator_of(settings: Settings, service: str) -> EmulatorFolder | None:
    """Returns the folder of an AWS Emulator that may be a service's upstream.

    None: there can be none, or the settings have credentials or authorities for it.
    """
    url = settings.upstream.get(service)
    if url is None or settings.upstream_ca is not None or service in settings.access:
        return None
    return folder_of(url)


def service_access(settings: Settings, service: str, region: str) -> S3Access:
    """Returns access to a service's upstream in a Region, possibly without a URL."""
    name = service if service in settings.upstream else ""
    url, ca = settings.upstream.get(name), settings.upstream_ca
    if url is not None:
        url = at(url, service, region)
    emulator = emulator_of(settings, name)
    if emulator is not None and emulator.is_there:
        ca = emulator.ca
    access = _credentials(settings, service) or _PLACEHOLDER
    keys = (access.access_key_id, access.secret_access_key)
    return S3Access(url, *keys, region, ca, access.session_token)


class ServerKeys:
    """Access keys that a server makes for itself, outside its key directory.

    Their secrets are in memory only.
    """

    def __init__(
        self,
        account: str,
        own: KnownKey | None = None,
        admin: KnownKey | None = None,
        of_store: KnownKey | None = None,
        store_access: UpstreamAccess | None = None,
    ) -> None:
        """Starts without keys of users.

        Args:
            account: the account of the keys.
            own: the key for the server's calls to its own endpoint; None with `permissive`.
            admin: the sandbox's.
            of_store: the key of the credentials for S3.
            store_access: these credentials.
        """
        self.own = own
        #: The credentials for S3 at the start, which verify with this server's own endpoint: an AWS
        #: Emulator replaces its key when it restarts. None with `permissive`.
        self.store_access = store_access
        self._account = account
        self._admin, self._of_store = admin, of_store
        self._of_users: dict[str, KnownKey] = {}

    def all(self) -> list[KnownKey]:
        """Returns the existing keys."""
        fixed = (self._of_store, self.own, self._admin)
        return [*(key for key in fixed if key is not None), *self._of_users.values()]

    def of_user(self, name: str) -> KnownKey:
        """Returns the key of a console user, so that records name the user."""
        key = self._of_users.get(name)
        if key is None:
            key = self._of_users[name] = _new_key(self._account, name)
        return key

    def is_trusted(self, access_key_id: str) -> bool:
        """Returns whether calls of a key need no policy; in the console, roles decide."""
        trusted = (self.own, self._admin, *self._of_users.values())
        return any(key and key.identity.access_key_id == access_key_id for key in trusted)


def server_keys(
    settings: Settings, resolve: Callable[[str], Identity], admin: tuple[str, str] | None
) -> ServerKeys:
    """Returns a server's keys.

    Args:
        settings: its settings.
        resolve: returns the identity of an access key id.
        admin: id and secret of the sandbox's key.
    """
    credentials = _credentials(settings)
    account = resolve(credentials.access_key_id).account if credentials else DEFAULT_ACCOUNT
    if not settings.verifies:
        return ServerKeys(account)
    of_store = None
    if credentials is not None:
        token = credentials.session_token
        hashed = hashlib.sha256(token.encode()).digest() if token else None
        secret = SigningSecret(credentials.secret_access_key, hashed)
        of_store = KnownKey(resolve(credentials.access_key_id), secret)
    of_admin = KnownKey(resolve(admin[0]), SigningSecret(admin[1])) if admin else None
    return ServerKeys(account, _new_key(account, OWN_USER), of_admin, of_store, credentials)


def _new_key(account: str, user: str) -> KnownKey:
    key_id = key_for_account(account, tail=secrets.token_bytes(4))
    identity = Identity(key_id, account, identity_of_user(account, user))
    return KnownKey(identity, SigningSecret(secrets.token_urlsafe(30)))


def _credentials(settings: Settings, service: str = "s3") -> UpstreamAccess | None:
    configured = settings.access.get(service) or settings.access.get("")
    emulator = emulator_of(settings, service if service in settings.upstream else "")
    key = emulator.key() if configured is None and emulator is not None else None
    if key is None:
        return configured
    return UpstreamAccess(key.access_key_id, key.secret_access_key, key.session_token)


def own_access(
    settings: Settings,
    url: str,
    own: KnownKey | None,
    account: str,
    store_access: UpstreamAccess | None = None,
) -> S3Access:
    """Returns access to this server's own endpoint, as the owner of the credentials for S3.

    The credentials in its keys take precedence: see `ServerKeys`.

    Without such credentials it is `own`, or else the upstream's account, whose calls most emulators
    accept.
    """
    credentials = store_access or _credentials(settings)
    if credentials is None:
        return own_api_access(settings, url, own, account)
    return S3Access(
        url,
        credentials.access_key_id,
        credentials.secret_access_key,
        ca=settings.tls_certificate,
        session_token=credentials.session_token,
    )


def own_api_access(settings: Settings, url: str, own: KnownKey | None, account: str) -> S3Access:
    """Returns access to this server's own CloudTrail API, as the owner of a server-made key."""
    if own is not None:
        key_id, secret = own.identity.access_key_id, own.secret.secret_access_key
        return S3Access(url, key_id, secret, ca=settings.tls_certificate)
    if _credentials(settings) is not None:
        return own_access(settings, url, None, account)
    key_id = key_for_account(account)
    return S3Access(url, key_id, "opentrail", ca=settings.tls_certificate)


#: A key id known to every emulator, used to ask for its default account.
_ANY = "test"
#: Seconds between attempts to learn the account of a silent upstream.
_ACCOUNT_RETRY_SECONDS = 2.0
#: Maximum seconds for an answer: an emulator may load a service at the first call.
_ANSWER_SECONDS = 8.0


class UpstreamCallers:
    """Learns from an upstream that checks no signatures which identity it sees behind a key.

    Asks an AWS Emulator with its own key. Asks no others: they could treat an invalidly signed
    request as an attack.

    Args:
        settings: name the upstream.
        identities: learn its answers.
    """

    def __init__(self, settings: Settings, identities: Identities) -> None:
        self._identities = identities
        url = settings.upstream.get("sts") or settings.upstream.get("")
        is_asked = settings.upstream_check == "on" and not settings.verifies
        self._probe = Probe(url, settings.upstream_ca) if url and is_asked else None
        self._kind: Kind | None = None
        self._is_recognized = self._probe is None
        self._asking: dict[str, asyncio.Task[bool]] = {}
        #: The identity that the upstream sees behind an unknown key; None if it gives none.
        self.default: CallerIdentity | None = None

    @property
    def asks(self) -> bool:
        """Whether the upstream may be of a kind that can be asked."""
        return self._probe is not None

    async def name(self, access_key_id: str) -> bool:
        """Returns once the caller behind a key is known; False if the upstream is unreachable.

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
        """Returns once the upstream's account is known, or the upstream is known not to give it.

        Until then the account of an earlier start applies.
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
        """Returns the identity that the upstream sees behind a key; None if it gives none.

        Raises:
            OSError: it is unreachable.
        """
        probe = self._probe
        if probe is None:
            return None
        if not self._is_recognized:
            kind, answer = await asyncio.to_thread(probe.kind)
            if answer.failure is not None:
                raise ConnectionError(answer.failure)
            if kind is not None:
                await self._identities.know_kind(probe.url, kind.name)
            else:  # it answers, but perhaps a route fails that was recognized before
                kind = KINDS_BY_NAME.get(await self._identities.known_kind(probe.url) or "")
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


class UpstreamKinds:
    """The kinds of upstreams, each asked for at the first call that needs it.

    Args:
        ca: PEM file with the authorities of their certificates, or None.
    """

    def __init__(self, ca: Path | None) -> None:
        self._ca = ca
        self._kinds: dict[str, asyncio.Task[Kind | None]] = {}

    async def takes_for_s3(
        self, upstream: Upstream, credential: Credential | None, host: str
    ) -> bool:
        """Returns whether an upstream carries out a REST call of another service as one of S3.

        Raises:
            OSError: it is unreachable, and was so at each earlier call.
        """
        url = upstream.url
        task = self._kinds.get(url)
        if task is None:
            task = self._kinds[url] = asyncio.ensure_future(self._ask(url))
        try:
            kind = await asyncio.shield(task)
        except OSError:
            if self._kinds.get(url) is task:
                del self._kinds[url]
            raise
        if kind is None or (kind.has_function_hosts and is_function_host(host)):
            return False
        return kind.takes_for_s3(credential)

    async def _ask(self, url: str) -> Kind | None:
        kind, answer = await asyncio.to_thread(Probe(url, self._ca).kind)
        if answer.failure is not None:
            raise ConnectionError(answer.failure)
        return kind


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
        """Returns a line for each upstream: its kind, and its treatment of signatures."""
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
