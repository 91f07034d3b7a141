"""Users of the console in a browser: first sign-in, the pages of each role, administration."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from tests.live.browser import Browser, browser
from tests.live.processes import Opentrail, run_opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

OWN = "correct horse battery"


def create(server: Opentrail, name: str, role: str, *flags: str) -> str:
    """Creates a user; returns the one-time password."""
    made = server.opentrail("users", "create", name, "--role", role, *flags, "--json")
    assert made.returncode == 0, made.stderr
    return str(json.loads(made.stdout)["password"])


def sign_in(opened: Browser, name: str, password: str) -> None:
    page = opened.page
    page.get_by_label("User name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def choose_password(opened: Browser) -> None:
    page = opened.page
    expect(page.get_by_role("heading", name="Choose a password")).to_be_visible()
    page.get_by_label("New password", exact=True).fill(OWN)
    page.get_by_label("New password again").fill(OWN)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Dashboard")).to_be_visible()


@contextmanager
def administering(chromium: Chromium, server: Opentrail, name: str) -> Iterator[Browser]:
    """Opens the page of users as a new administrator; errors on it fail the test at the end."""
    once = create(server, name, "admin")
    with browser(chromium, server) as opened:
        opened.go("")
        sign_in(opened, name, once)
        choose_password(opened)
        opened.go("users")
        yield opened
        check(opened)


def check(opened: Browser) -> None:
    """Fails on any problem other than the refused calls that these tests make."""
    refused = re.compile(r"Failed to load resource: .* 40[13]")
    opened.problems = [text for text in opened.problems if not refused.match(text)]
    opened.check()


def test_a_viewer_signs_in_and_sees_viewer_pages(
    chromium: Chromium,
    server: Opentrail,
) -> None:
    once = create(server, "vera", "viewer")
    server.boto("iam").create_user(UserName="Mary")
    with browser(chromium, server) as opened:
        page = opened.page
        opened.go("")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        assert opened.violations() == []
        sign_in(opened, "vera", "wrong")
        expect(page.get_by_text("The user name or the password is wrong.")).to_be_visible()
        sign_in(opened, "vera", once)
        choose_password(opened)
        expect(page.get_by_role("link", name="Event history", exact=True)).to_be_visible()
        for hidden in ("Trails", "Integrity", "Users"):
            expect(page.get_by_role("link", name=hidden, exact=True)).to_have_count(0)
        opened.go("events?expression=eventName%3DConsoleLogin")
        expect(page.get_by_role("row").filter(has_text="vera").first).to_be_visible()
        expect(page.get_by_role("button", name="Download events")).to_have_count(0)
        opened.go("trails")
        expect(page.get_by_text("This page is not for your role")).to_be_visible()
        page.get_by_role("button", name="Session: vera").click()
        page.get_by_role("menuitem", name="Sign out").click()
        expect(page.get_by_text("The session expired")).to_be_visible()
        check(opened)


def test_an_administrator_creates_disables_and_deletes_users(
    chromium: Chromium, server: Opentrail
) -> None:
    create(server, "paul", "viewer")
    with administering(chromium, server, "adam") as opened:
        page = opened.page
        page.get_by_role("button", name="Create user").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_label("Name").fill("olga")
        dialog.get_by_role("button", name="Create user").click()
        expect(page.get_by_text("Password of olga for the next sign-in")).to_be_visible()
        assert opened.violations() == []
        page.get_by_role("button", name="Disable olga").click()
        expect(page.get_by_role("button", name="Enable olga")).to_be_visible()
        page.get_by_role("button", name="Delete paul").click()
        expect(dialog).to_contain_text("Delete user paul?")
        assert opened.violations() == []
        dialog.get_by_role("button", name="Keep user").click()
        page.get_by_role("button", name="Delete paul").click()
        dialog.get_by_role("button", name="Delete user").click()
        expect(page.get_by_role("button", name="Delete paul")).to_have_count(0)
    listed = json.loads(server.opentrail("users", "list", "--json").stdout)["users"]
    active = {user["name"]: user["active"] for user in listed}
    assert active["olga"] is False
    assert "paul" not in active


def test_an_administrator_creates_and_removes_tokens(chromium: Chromium, server: Opentrail) -> None:
    create(server, "theo", "viewer")
    with administering(chromium, server, "alma") as opened:
        page = opened.page
        page.get_by_role("button", name="Create token").click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="User").click()
        page.get_by_role("option", name="theo").click()
        dialog.get_by_label("Name").fill("laptop")
        assert opened.violations() == []
        dialog.get_by_label("Valid for").fill("500")
        dialog.get_by_role("button", name="Create token").click()
        expect(dialog).to_contain_text("days must be 1 to 366")
        dialog.get_by_label("Valid for").fill("30")
        dialog.get_by_role("button", name="Create token").click()
        expect(page.get_by_text("Token laptop of theo")).to_be_visible()
        secret = page.get_by_text("ot_").inner_text()
        assert looks_up(server, secret) == 0
        assert opened.violations() == []
        page.get_by_role("button", name="Remove token laptop of theo").click()
        expect(page.get_by_text("There are no tokens.")).to_be_visible()
        assert looks_up(server, secret) != 0
        opened.problems[:] = [one for one in opened.problems if "status of 400" not in one]


def looks_up(server: Opentrail, token: str) -> int:
    """Returns the exit code of a lookup with a personal token."""
    endpoint = ("--endpoint", server.console)
    return run_opentrail("lookup", *endpoint, OPENTRAIL_TOKEN=token).returncode
