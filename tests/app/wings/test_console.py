"""Settings of the web console."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from opentrail.access.users import ConsoleRole
from opentrail.app.wings.console import console_settings, oidc_login
from opentrail.settings import Settings
from tests.factories import ACCOUNT
from tests.fakes import SettableClock

URL = "http://127.0.0.1:4748"


def test_without_tls_the_console_has_only_local_names() -> None:
    found = console_settings(Settings(), URL, lambda: ACCOUNT)
    assert found.is_own_name is not None
    assert all(map(found.is_own_name, ("127.0.0.1:4748", "localhost:4748", "[::1]:4748")))
    assert not any(map(found.is_own_name, ("127.0.0.1:80", "opentrail:4748", "evil.example")))
    assert (found.account(), found.region) == (ACCOUNT, "us-east-1")
    with_tls = Settings(tls_certificate=Path(__file__), tls_key=Path(__file__))
    assert console_settings(with_tls, URL, lambda: ACCOUNT).is_own_name is None


def test_trusted_networks_add_safe_names() -> None:
    found = console_settings(
        Settings(insecure_trusted_networks=("10.0.0.0/8",)), URL, lambda: ACCOUNT
    )
    assert found.is_own_name is not None
    assert all(map(found.is_own_name, ("127.0.0.1:14748", "opentrail:4748", "172.28.47.3:4748")))
    assert not any(map(found.is_own_name, ("evil.example:4748", "opentrail.evil.example")))


def test_console_answers_to_its_public_name() -> None:
    own = ("127.0.0.1:4748", "trail.example.com", "trail.example.com:443")
    for more in (Settings(), Settings(insecure_trusted_networks=("10.0.0.0/8",))):
        settings = replace(more, console_url="https://trail.example.com")
        found = console_settings(settings, URL, lambda: ACCOUNT).is_own_name
        assert found is not None
        assert all(map(found, own))
        assert not any(map(found, ("trail.example.com:80", "evil.example", "a.trail.example.com")))


def test_users_sign_in_by_a_configured_provider() -> None:
    assert oidc_login(Settings(), SettableClock(), None) is None
    given = Settings(
        oidc_issuer="https://id.example",
        oidc_client_id="opentrail",
        oidc_role_claim="groups",
        oidc_roles={"staff": "viewer"},
        oidc_accounts_claim="accounts",
    )
    login = oidc_login(given, SettableClock(), None)
    assert login is not None
    assert (login.role_claim, login.roles) == ("groups", {"staff": ConsoleRole.VIEWER})
    assert login.accounts_claim == "accounts"
