"""Access to upstreams: the service's own before the default one, never anybody else's."""

from __future__ import annotations

from opentrail.adapters.aws.object_store import S3Access
from opentrail.app.access import service_access, store_access
from opentrail.settings import Settings, UpstreamAccess

EVERYTHING, BUCKETS = "http://127.0.0.1:5000", "http://127.0.0.1:8333"


def test_a_service_is_reached_at_its_own_upstream_else_at_the_default_one() -> None:
    settings = Settings(upstream={"": EVERYTHING, "s3": BUCKETS})
    assert service_access(settings, "s3", "eu-west-1").endpoint_url == BUCKETS
    assert service_access(settings, "sns", "eu-west-1").endpoint_url == EVERYTHING
    only = Settings(upstream={"s3": BUCKETS})
    assert service_access(only, "sns", "eu-west-1").endpoint_url is None


def test_service_and_region_are_parts_of_an_address() -> None:
    settings = Settings(upstream={"": "https://{service}.{region}.amazonaws.com"})
    made = service_access(settings, "sns", "eu-west-1")
    assert made.endpoint_url == "https://sns.eu-west-1.amazonaws.com"


def test_without_credentials_an_upstream_gets_placeholders() -> None:
    made = service_access(Settings(upstream={"": EVERYTHING}), "logs", "eu-west-1")
    assert made == S3Access(EVERYTHING, "opentrail", "opentrail", "eu-west-1")


def test_buckets_are_reached_in_the_region_of_their_credentials() -> None:
    own = UpstreamAccess("AKIAEXAMPLE", "secret", "token", "eu-west-1")
    settings = Settings(upstream={"": EVERYTHING}, access={"s3": own})
    expected = S3Access(EVERYTHING, "AKIAEXAMPLE", "secret", "eu-west-1", None, "token")
    assert store_access(settings) == expected
    assert store_access(Settings(upstream={"": EVERYTHING})).region == "us-east-1"
