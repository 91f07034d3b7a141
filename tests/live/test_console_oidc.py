"""A browser signs in to the console at a provider of OpenID Connect."""

from __future__ import annotations

import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from tests.live.browser import browser
from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]


@pytest.fixture
def issuer() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import oidc_provider_mock as mock

        users = [
            mock.User(sub=name, claims={"groups": groups})
            for name, groups in (("ann", ["security"]), ("eve", ["sales"]))
        ]
        with mock.run_server_in_thread(user_claims=users, require_nonce=True) as server:
            yield f"http://localhost:{server.server_port}"


@pytest.fixture
def server(tmp_path: Path, issuer: str) -> Iterator[Opentrail]:
    config = tmp_path / "opentrail.toml"
    config.write_text(
        f'[oidc]\nissuer = "{issuer}"\nclient_id = "opentrail"\nclient_secret = "s3cret"\n'
        'role_claim = "groups"\nroles.security = "auditor"\n'
    )
    flags = ("--config", str(config), "--upstream", "http://127.0.0.1:9")
    with opentrail_server(tmp_path / "data", *flags) as made:
        yield made


def sign_in(page: Any, name: str) -> None:
    page.get_by_role("button", name="Sign in with single sign-on").click()
    page.locator('input[name="sub"]:not([type="hidden"])').fill(name)
    page.locator('input[name="sub"]:not([type="hidden"])').press("Enter")


def test_user_signs_in_with_a_groups_role(chromium: Chromium, server: Opentrail) -> None:
    with browser(chromium, server) as opened:
        page = opened.page
        opened.go("")
        sign_in(page, "eve")
        expect(page.get_by_text("No role is for oidc:eve")).to_be_visible()
        page.get_by_role("link", name="Sign in again").click()
        sign_in(page, "ann")
        expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()
        expect(page.get_by_role("button", name="Session: oidc:ann")).to_be_visible()
        expect(page.get_by_role("link", name="Trails", exact=True)).to_be_visible()
        expect(page.get_by_role("link", name="Users", exact=True)).to_have_count(0)
    found = [
        (record["userIdentity"]["userName"], record["responseElements"]["ConsoleLogin"])
        for record in server.records()
    ]
    assert found == [("oidc:ann", "Success"), ("oidc:eve", "Failure")]


def test_console_answers_under_its_public_address(tmp_path: Path) -> None:
    flags = ("--console-url", "https://Trail.example.com/", "--upstream", "http://127.0.0.1:9")
    with opentrail_server(tmp_path / "data", *flags) as server:
        for host, status in (("trail.example.com", 200), ("evil.example", 421)):
            address = f"{server.console}/console/"
            request = urllib.request.Request(address, headers={"Host": host})  # noqa: S310
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
                    found = answer.status
            except urllib.error.HTTPError as error:
                found = error.code
            assert found == status
