"""How opentrail's own traffic reaches the services of its upstreams."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import replace

from opentrail.access.keys import KnownKey
from opentrail.adapters.aws.object_store import S3Access
from opentrail.capture.proxy.upstream import at
from opentrail.core.identity import DEFAULT_ACCOUNT, Identity, iam_user, key_for_account
from opentrail.settings import Settings
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


def own_key() -> KnownKey:
    """Returns a key that the server calls its own endpoint with; its secret is in memory only."""
    key_id = key_for_account(DEFAULT_ACCOUNT, tail=secrets.token_bytes(4))
    identity = Identity(key_id, DEFAULT_ACCOUNT, iam_user(DEFAULT_ACCOUNT, OWN_USER, None, None))
    return KnownKey(identity, SigningSecret(secrets.token_urlsafe(30)))


def key_of_store(settings: Settings, resolve: Callable[[str], Identity]) -> KnownKey | None:
    """Returns the key of the credentials for S3, which `own_access` signs with."""
    given = settings.access.get("s3") or settings.access.get("")
    if given is None:
        return None
    token = given.session_token
    hashed = hashlib.sha256(token.encode()).digest() if token else None
    secret = SigningSecret(given.secret_access_key, hashed)
    return KnownKey(resolve(given.access_key_id), secret)


def own_access(settings: Settings, url: str, own: KnownKey | None) -> S3Access:
    """Returns access to this server's own endpoint, as the owner of the credentials for S3.

    Without such credentials it is `own`, or else the default account, whose calls most emulators
    accept.
    """
    given = settings.access.get("s3") or settings.access.get("")
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
    if own is None:
        given = settings.access.get("s3") or settings.access.get("")
        if given is not None:
            return own_access(settings, url, None)
        key_id, secret = key_for_account(DEFAULT_ACCOUNT), "opentrail"
    else:
        key_id, secret = own.identity.access_key_id, own.secret.secret_access_key
    return S3Access(url, key_id, secret, ca=settings.tls_certificate)
