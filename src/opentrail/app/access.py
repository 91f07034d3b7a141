"""How opentrail's own traffic reaches the services of its upstreams."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace

from opentrail.access.keys import KnownKey
from opentrail.adapters.aws.object_store import S3Access
from opentrail.capture.proxy.upstream import at
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity, iam_user, key_for_account
from opentrail.settings import Settings, UpstreamAccess
from opentrail.wire.verification import SigningSecret

#: Name in records of the user that the web console calls services as, with `--auth enforced`.
OWN_USER = "opentrail-console"

#: Credentials for upstreams that check no signatures.
_PLACEHOLDER = S3Access(None, "opentrail", "opentrail")


def store_access(settings: Settings) -> S3Access:
    """Returns access to S3, in the Region of its credentials, else in us-east-1."""
    access = settings.access.get("s3") or settings.access.get("")
    region = access.region if access and access.region else "us-east-1"
    return service_access(settings, "s3", region)


def service_access(settings: Settings, service: str, region: str) -> S3Access:
    """Returns access to a service's upstream in a Region; without a URL if it has none."""
    url = settings.upstream.get(service) or settings.upstream.get("")
    access = settings.access.get(service) or settings.access.get("")
    if url is not None:
        url = at(url, service, region)
    if access is None:
        return replace(_PLACEHOLDER, endpoint_url=url, region=region, ca=settings.upstream_ca)
    return S3Access(
        url,
        access.access_key_id,
        access.secret_access_key,
        region,
        settings.upstream_ca,
        access.session_token,
    )


@dataclass(frozen=True, slots=True)
class ServerKeys:
    """The keys that a server knows without its key directory; none with `--auth permissive`."""

    #: The key that it calls its own endpoint with; its secret is in memory only.
    own: KnownKey | None = None
    #: The sandbox's.
    admin: KnownKey | None = None
    #: The key of the credentials for S3.
    of_store: KnownKey | None = None

    def all(self) -> list[KnownKey]:
        """Returns the keys that there are."""
        return [key for key in (self.of_store, self.own, self.admin) if key is not None]

    def always_allowed(self) -> dict[str, str]:
        """Returns the managed policies that users have without attachment, by the users' ARNs."""
        users = [key.identity.user_identity.get("arn") for key in (self.own, self.admin) if key]
        return {str(arn): "AdministratorAccess" for arn in users}


def server_keys(
    settings: Settings, resolve: Callable[[str], Identity], admin: tuple[str, str] | None
) -> ServerKeys:
    """Returns a server's keys.

    Args:
        settings: its settings.
        resolve: returns the identity of an access key id.
        admin: id and secret of the sandbox's key.
    """
    if settings.auth != "enforced":
        return ServerKeys()
    key_id = key_for_account(DEFAULT_ACCOUNT, tail=secrets.token_bytes(4))
    identity = Identity(key_id, DEFAULT_ACCOUNT, iam_user(DEFAULT_ACCOUNT, OWN_USER, None, None))
    own = KnownKey(identity, SigningSecret(secrets.token_urlsafe(30)))
    given = _store_credentials(settings)
    of_store = None
    if given is not None:
        token = given.session_token
        hashed = hashlib.sha256(token.encode()).digest() if token else None
        secret = SigningSecret(given.secret_access_key, hashed)
        of_store = KnownKey(resolve(given.access_key_id), secret)
    return ServerKeys(
        own, KnownKey(resolve(admin[0]), SigningSecret(admin[1])) if admin else None, of_store
    )


def _store_credentials(settings: Settings) -> UpstreamAccess | None:
    return settings.access.get("s3") or settings.access.get("")


def own_access(settings: Settings, url: str, own: KnownKey | None) -> S3Access:
    """Returns access to this server's own endpoint, as the owner of the credentials for S3.

    Without such credentials it is `own`, or else the default account, whose calls most emulators
    accept.
    """
    given = _store_credentials(settings)
    if given is None:
        return own_api_access(settings, url, own)
    return S3Access(
        url,
        given.access_key_id,
        given.secret_access_key,
        ca=settings.tls_certificate,
        session_token=given.session_token,
    )


def own_api_access(settings: Settings, url: str, own: KnownKey | None) -> S3Access:
    """Returns access to this server's own CloudTrail API: signed with `own` if it is checked."""
    if own is not None:
        key_id, secret = own.identity.access_key_id, own.secret.secret_access_key
        return S3Access(url, key_id, secret, ca=settings.tls_certificate)
    if _store_credentials(settings) is not None:
        return own_access(settings, url, None)
    key_id = key_for_account(DEFAULT_ACCOUNT)
    return S3Access(url, key_id, "opentrail", ca=settings.tls_certificate)
