"""How opentrail's own traffic reaches the services of its upstreams."""

from __future__ import annotations

from dataclasses import replace

from opentrail.adapters.aws.object_store import S3Access
from opentrail.capture.proxy.upstream import at
from opentrail.core.identity import DEFAULT_ACCOUNT, key_for_account
from opentrail.settings import Settings

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


def own_access(settings: Settings, url: str) -> S3Access:
    """Returns access to this server's own endpoint, as the owner of the credentials for S3.

    Without such credentials it is the default account, whose calls most emulators accept.
    """
    given = settings.access.get("s3") or settings.access.get("")
    if given is None:
        key = key_for_account(DEFAULT_ACCOUNT)
        return S3Access(url, key, "opentrail", ca=settings.tls_certificate)
    return S3Access(
        url,
        given.access_key_id,
        given.secret_access_key,
        ca=settings.tls_certificate,
        session_token=given.session_token,
    )
