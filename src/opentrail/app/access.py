"""How opentrail's own traffic reaches the services of its upstreams."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable

from opentrail.access.keys import KnownKey
from opentrail.access.users import identity_of_user
from opentrail.adapters.aws.emulator_folder import EmulatorFolder, folder_of
from opentrail.adapters.aws.object_store import S3Access
from opentrail.capture.proxy.upstream import at
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity, key_for_account
from opentrail.settings import Settings, UpstreamAccess
from opentrail.wire.verification import SigningSecret

#: Name in records of the user that the web console calls services as, with `--auth enforced`.
OWN_USER = "opentrail-console"

#: Credentials for upstreams that check no signatures.
_PLACEHOLDER = UpstreamAccess("opentrail", "opentrail")


def store_access(settings: Settings) -> S3Access:
    """Returns access to S3, in the Region of its credentials, else in us-east-1."""
    return service_access(settings, "s3", own_region(settings))


def own_region(settings: Settings) -> str:
    """Returns the Region of the server's own calls: that of the credentials for S3."""
    access = _credentials(settings)
    return access.region if access and access.region else "us-east-1"


def emulator_of(settings: Settings, service: str) -> EmulatorFolder | None:
    """Returns the folder of an AWS Emulator that may be a service's upstream.

    None: it cannot be one, or the settings have credentials or authorities for it.
    """
    url = settings.upstream.get(service)
    if url is None or settings.upstream_ca is not None or service in settings.access:
        return None
    return folder_of(url)


def service_access(settings: Settings, service: str, region: str) -> S3Access:
    """Returns access to a service's upstream in a Region; without a URL if it has none."""
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
    """Access keys that a server makes itself, and knows without its key directory.

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
            own: the key that the server calls its own endpoint with; None with `permissive`.
            admin: the sandbox's.
            of_store: the key of the credentials for S3.
            store_access: these credentials.
        """
        self.own = own
        #: The credentials for S3 as of the start, which verify with this server's own endpoint: an
        #: AWS Emulator replaces its key when it restarts. None with `permissive`.
        self.store_access = store_access
        self._account = account
        self._admin, self._of_store = admin, of_store
        self._of_users: dict[str, KnownKey] = {}

    def all(self) -> list[KnownKey]:
        """Returns the existing keys."""
        fixed = (self._of_store, self.own, self._admin)
        return [*(key for key in fixed if key is not None), *self._of_users.values()]

    def of_user(self, name: str) -> KnownKey:
        """Returns the key of a user of the web console, so that records name the user."""
        key = self._of_users.get(name)
        if key is None:
            key = self._of_users[name] = _new_key(self._account, name)
        return key

    def is_trusted(self, access_key_id: str) -> bool:
        """Returns whether calls of a key need no policy; roles decide in the console."""
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
    if settings.auth != "enforced":
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

    Those that its keys have come first: see `ServerKeys`.

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
    """Returns access to this server's own CloudTrail API, as the owner of a key that it made."""
    if own is not None:
        key_id, secret = own.identity.access_key_id, own.secret.secret_access_key
        return S3Access(url, key_id, secret, ca=settings.tls_certificate)
    if _credentials(settings) is not None:
        return own_access(settings, url, None, account)
    key_id = key_for_account(account)
    return S3Access(url, key_id, "opentrail", ca=settings.tls_certificate)
