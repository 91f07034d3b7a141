"""Access to upstreams: the service's own before the default, and no other service's."""

from __future__ import annotations

from pathlib import Path

import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.app.upstreams import (
    own_access,
    own_api_access,
    server_keys,
    service_access,
    store_access,
)
from opentrail.core.identity import unknown
from opentrail.settings import Settings, UpstreamAccess
from tests.factories import ACCOUNT

EVERYTHING, BUCKETS = "http://127.0.0.1:5000", "http://127.0.0.1:8333"


def test_a_service_has_its_upstream_or_the_default() -> None:
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


def test_buckets_are_accessed_in_their_credentials_region() -> None:
    own = UpstreamAccess("AKIAEXAMPLE", "secret", "token", "eu-west-1")
    settings = Settings(upstream={"": EVERYTHING}, access={"s3": own})
    expected = S3Access(EVERYTHING, "AKIAEXAMPLE", "secret", "eu-west-1", None, "token")
    assert store_access(settings) == expected
    assert store_access(Settings(upstream={"": EVERYTHING})).region == "us-east-1"


def test_the_server_makes_keys_only_to_verify_signatures() -> None:
    settings = Settings(access={"s3": UpstreamAccess("AKIAEXAMPLE", "secret")})
    assert server_keys(settings, lambda key: unknown("123456789012", key), None).all() == []
    assert own_access(settings, "http://x", None, ACCOUNT).access_key_id == "AKIAEXAMPLE"
    assert own_api_access(settings, "http://x", None, ACCOUNT).access_key_id == "AKIAEXAMPLE"


def test_server_and_user_keys_are_trusted() -> None:
    settings = Settings(auth="enforced", access={"s3": UpstreamAccess("AKIAEXAMPLE", "secret")})
    keys = server_keys(settings, lambda key: unknown("111122223333", key), None)
    assert keys.own is not None
    ann = keys.of_user("ann")
    assert keys.of_user("ann") is ann
    assert ann.identity.user_identity["arn"] == "arn:aws:iam::111122223333:user/opentrail/ann"
    ids = {"AKIAEXAMPLE", keys.own.identity.access_key_id, ann.identity.access_key_id}
    assert {key.identity.access_key_id for key in keys.all()} == ids
    assert {key for key in ids if keys.is_trusted(key)} == ids - {"AKIAEXAMPLE"}
    assert own_access(settings, "http://x", keys.own, ACCOUNT).access_key_id == "AKIAEXAMPLE"
    own = own_api_access(settings, "http://x", keys.own, ACCOUNT)
    assert own.access_key_id == keys.own.identity.access_key_id
    assert own.secret_access_key == keys.own.secret.secret_access_key


def test_the_sandboxs_admin_is_trusted() -> None:
    settings = Settings(auth="enforced")
    keys = server_keys(settings, lambda key: unknown("111122223333", key), ("AKIAADMIN", "s"))
    assert keys.is_trusted("AKIAADMIN")


def test_the_server_signs_with_the_emulators_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An AWS Emulator makes a new key at each start; the endpoint exchanges earlier ones."""
    monkeypatch.setenv("HOME", str(tmp_path))
    url = "https://127.0.0.1:9297"
    folder = tmp_path / ".aws" / "emulator" / url.rpartition(":")[2]
    folder.mkdir(parents=True)
    (folder / "ca.pem").write_text("")

    def start(number: int) -> None:
        text = f"[default]\naws_access_key_id = AKIA{number}\naws_secret_access_key = secret\n"
        (folder / "emulator_credentials").write_text(text)

    start(1)
    settings = Settings(auth="enforced", upstream={"": url})
    keys = server_keys(settings, lambda key: unknown(ACCOUNT, key), None)
    start(22)  # another size: a file's time may stay the same
    assert "AKIA22" in store_access(settings).access_key_id
    made = own_access(settings, "http://x", keys.own, ACCOUNT, keys.store_access)
    assert made.access_key_id == "AKIA1"
    assert "AKIA1" in [key.identity.access_key_id for key in keys.all()]
