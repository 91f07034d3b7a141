"""Signing in to the console by a provider: one browser, one state, one role."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from http.cookies import SimpleCookie
from typing import Any

import pytest

from opentrail.access.users import ConsoleRole
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.api.console.oidc import CALLBACK, OidcLogin
from opentrail.core.errors import SignInRefused
from opentrail.ports.services import BegunSignIn
from opentrail.ports.signer import Sealer
from tests.api.browser import HOST, Browser
from tests.api.caller import Answer, send
from tests.fakes import asynchronous

ROLES = {"readers": ConsoleRole.VIEWER, "admins": ConsoleRole.ADMIN}


class Provider:
    """An `IdentityProvider` with one user, whose claims a test sets."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {
            "iss": "https://id.example",
            "sub": "1",
            "email": "ann@example.com",
            "email_verified": True,
            "groups": "readers",
        }
        self.begun = 0
        self.refuses = False
        self.redirect_uri = ""

    async def begin(self, redirect_uri: str) -> tuple[str, BegunSignIn]:
        self.begun += 1
        self.redirect_uri = redirect_uri
        if self.refuses:
            raise SignInRefused("Signing in failed: the provider is down.", False)
        state = f"state-{self.begun}"
        url = f"https://id.example/?state={state}"
        return url, BegunSignIn(state, "nonce", "verifier", redirect_uri)

    async def finish(self, begun: BegunSignIn, answer: Mapping[str, str]) -> Mapping[str, Any]:
        if answer.get("code") != "good":
            raise SignInRefused("Signing in failed: the code is wrong.", False)
        return self.claims


SEALER = AesGcmSealer(b"m" * 32)


def with_provider(
    sealer: Sealer = SEALER,
    is_own_name: Callable[[str], bool] | None = HOST.__eq__,
    proxy_host: str | None = None,
) -> tuple[Browser, Provider]:
    provider = Provider()
    login = OidcLogin(provider, "groups", ROLES, sealer)
    browser = Browser(oidc=login, is_own_name=is_own_name, proxy_host=proxy_host)
    browser.cookie = None
    return browser, provider


async def begin(browser: Browser) -> tuple[str, str]:
    """Returns the state, and the cookie that binds it to the browser."""
    answer = await browser.post("oidc", {})
    assert answer.status == 200, answer.body
    cookie = SimpleCookie(answer.headers["set-cookie"])["ot-oidc"]
    assert (cookie["samesite"], cookie["httponly"]) == ("lax", True)
    return answer.body.decode().rpartition("=")[2], cookie.value


async def come_back(browser: Browser, state: str, cookie: str | None, code: str = "good") -> Answer:
    """Returns as from a page of another site; the browser keeps its session."""
    headers = {"host": HOST, "sec-fetch-site": "cross-site"}
    if cookie is not None:
        headers["cookie"] = f'ot-oidc="{cookie}"'
    answer = await send(browser.app, "GET", f"{CALLBACK}?state={state}&code={code}", headers)
    if "set-cookie" in answer.headers and answer.status == 303:
        browser.cookie = next(
            part.value for part in SimpleCookie(answer.cookies).values() if part.key == "ot-session"
        )
    return answer


def logins(browser: Browser) -> list[tuple[str, str]]:
    records = [json.loads(entry.record) for entry in browser.api.world.entries]
    return [
        (record["userIdentity"]["userName"], record["responseElements"]["ConsoleLogin"])
        for record in records
    ]


@asynchronous
async def test_user_signs_in_with_a_claims_role() -> None:
    browser, provider = with_provider()
    assert (await browser.get("login")).json == {"oidc": True}
    answer = await come_back(browser, *await begin(browser))
    assert (answer.status, answer.headers["location"]) == (303, "/console/")
    session = (await browser.get("session")).json
    assert (session["user"], session["role"]) == ("oidc:ann@example.com", "viewer")
    assert session["hasPassword"] is False
    assert provider.redirect_uri == f"http://{HOST}{CALLBACK}"
    assert logins(browser) == [("oidc:ann@example.com", "Success")]


@asynchronous
async def test_the_highest_of_several_roles_applies() -> None:
    browser, provider = with_provider()
    provider.claims["groups"] = ["others", 5, "admins", "readers"]
    await come_back(browser, *await begin(browser))
    assert (await browser.get("session")).json["role"] == "admin"


@pytest.mark.parametrize("groups", [None, "others", [], ["admin"], {"admins": True}, 7])
@asynchronous
async def test_user_without_a_role_is_refused_and_recorded(groups: Any) -> None:
    browser, provider = with_provider()
    provider.claims["groups"] = groups
    answer = await come_back(browser, *await begin(browser))
    assert answer.status == 403
    assert b"No role is for oidc:ann@example.com" in answer.body
    assert browser.cookie is None
    assert logins(browser) == [("oidc:ann@example.com", "Failure")]


@asynchronous
async def test_a_state_is_valid_only_in_its_browser() -> None:
    browser, _ = with_provider()
    state, cookie = await begin(browser)
    assert b"https://" not in SEALER.unseal(cookie, "console sign-in"), "coming back needs no URL"
    moved = SEALER.seal(SEALER.unseal(cookie, "console sign-in"), "elsewhere")
    for wrong in (None, "", "state-0", cookie + "x", cookie[:-8], moved, cookie):
        again, _ = await begin(browser)
        assert (await come_back(browser, again, wrong)).status == 401
    assert (await come_back(browser, "never-begun", "never-begun")).status == 401
    assert (await come_back(browser, "", None)).status == 401
    assert (await come_back(browser, state, moved)).status == 401
    answer = await come_back(browser, state, cookie)
    assert answer.status == 303
    cookies = SimpleCookie(answer.cookies)
    assert (cookies["ot-oidc"].value, cookies["ot-oidc"]["max-age"]) == ("", "0")
    assert logins(browser) == [("oidc:ann@example.com", "Success")]


@asynchronous
async def test_a_browser_may_return_to_another_server() -> None:
    (one, _), (two, _), (stranger, _) = (
        with_provider(),
        with_provider(),
        with_provider(AesGcmSealer(b"n" * 32)),
    )
    state, cookie = await begin(one)
    assert not any(secret in cookie for secret in ("verifier", "nonce", state))
    assert (await come_back(stranger, state, cookie)).status == 401
    assert (await come_back(two, state, cookie)).status == 303
    assert (await two.get("session")).json["user"] == "oidc:ann@example.com"


@pytest.mark.slow
@asynchronous
async def test_unfinished_sign_ins_end_no_other() -> None:
    browser, _ = with_provider()
    state, cookie = await begin(browser)
    for _ in range(2_000):
        assert (await browser.post("oidc", {})).status == 200
    assert (await come_back(browser, state, cookie)).status == 303


@asynchronous
async def test_a_slow_sign_in_must_begin_again() -> None:
    browser, _ = with_provider()
    state, cookie = await begin(browser)
    browser.api.world.clock.advance(601)
    assert (await come_back(browser, state, cookie)).status == 401


@asynchronous
async def test_refusal_of_the_provider_is_shown_and_recorded() -> None:
    browser, provider = with_provider()
    answer = await come_back(browser, *await begin(browser), code="bad")
    assert answer.status == 401
    assert b"the code is wrong" in answer.body
    assert b'<a href="/console/">' in answer.body
    assert "script-src" not in answer.headers["content-security-policy"]
    assert logins(browser) == [("HIDDEN_DUE_TO_SECURITY_REASONS", "Failure")]
    provider.refuses = True
    refused = await browser.post("oidc", {})
    assert (refused.status, refused.json["code"]) == (502, "SignInRefused")


@asynchronous
async def test_attempts_are_limited_before_provider_and_record() -> None:
    browser, _ = with_provider()
    state, cookie = await begin(browser)
    for _ in range(5):
        assert (await come_back(browser, state, cookie, code="bad")).status == 401
    refused = await come_back(browser, state, cookie)
    assert (refused.status, len(logins(browser))) == (429, 5)
    assert b"TooManyTries" in refused.body
    for _ in range(15):
        assert (await come_back(browser, *await begin(browser), code="bad")).status == 401
    assert (await come_back(browser, *await begin(browser))).status == 429
    browser.api.world.clock.advance(60)
    for _ in range(21):
        assert (await come_back(browser, *await begin(browser))).status == 303


@asynchronous
async def test_without_a_provider_the_sign_in_is_missing() -> None:
    browser = Browser()
    assert (await browser.get("login")).json == {"oidc": False}
    answer = await browser.post("oidc", {})
    assert answer.json["code"] == "UnsupportedOperationException"


@pytest.mark.parametrize("changes", [{"x_ot_csrf": None}, {"origin": "http://evil.example"}])
@asynchronous
async def test_another_page_cannot_begin_it(changes: dict[str, str | None]) -> None:
    browser, provider = with_provider()
    assert (await browser.post("oidc", {}, **changes)).status == 403
    assert provider.begun == 0


@pytest.mark.parametrize(
    ("claims", "name"),
    [
        ({"preferred_username": "ann"}, "oidc:ann"),
        ({"preferred_username": "<b>\u202e"}, "oidc:ann@example.com"),
        ({"email": None}, "oidc:1"),
        ({"email_verified": False}, "oidc:1"),
        ({"email": "x" * 200, "sub": "\u202e"}, "oidc:unnamed"),
    ],
)
@asynchronous
async def test_a_user_has_the_best_printable_name(claims: dict[str, Any], name: str) -> None:
    browser, provider = with_provider()
    provider.claims |= claims
    await come_back(browser, *await begin(browser))
    assert (await browser.get("session")).json["user"] == name


@asynchronous
async def test_provider_subject_is_recorded() -> None:
    browser, provider = with_provider()
    await come_back(browser, *await begin(browser))
    provider.claims |= {"preferred_username": "root", "groups": []}
    await come_back(browser, *await begin(browser))
    for entry in browser.api.world.entries:
        more = json.loads(entry.record)["additionalEventData"]
        assert (more["OidcIssuer"], more["OidcSubject"]) == ("https://id.example", "1")
    assert [name for name, _ in logins(browser)] == ["oidc:ann@example.com", "oidc:root"]


PUBLIC = "trail.example.com"


@pytest.mark.parametrize("host", [PUBLIC, PUBLIC.upper(), f"{PUBLIC}:443"])
@asynchronous
async def test_sign_in_works_behind_a_proxy(host: str) -> None:
    browser, provider = with_provider(is_own_name=None, proxy_host=PUBLIC)
    origin = f"https://{host}"
    begun = await browser.post("oidc", {}, host=host, origin=origin)
    assert begun.status == 200, begun.body
    assert provider.redirect_uri == f"https://{host}{CALLBACK}"
    bound = SimpleCookie(begun.headers["set-cookie"])["__Host-ot-oidc"]
    assert bound["secure"]
    state = begun.body.decode().rpartition("=")[2]
    headers = {"host": host, "cookie": f'__Host-ot-oidc="{bound.value}"'}
    came = await send(browser.app, "GET", f"{CALLBACK}?state={state}&code=good", headers)
    assert came.status == 303, came.body
    session = next(p for p in SimpleCookie(came.cookies).values() if p.key == "__Host-ot")
    assert (session["secure"], session["path"]) == (True, "/")
    record = json.loads(browser.api.world.entries[0].record)
    assert record["additionalEventData"]["LoginTo"] == f"https://{host}/console/"


@asynchronous
async def test_other_hosts_have_no_secure_cookies() -> None:
    browser, provider = with_provider(proxy_host=PUBLIC)
    begun = await browser.post("oidc", {})
    assert provider.redirect_uri == f"http://{HOST}{CALLBACK}"
    assert not SimpleCookie(begun.headers["set-cookie"])["ot-oidc"]["secure"]
    refused = await browser.post("oidc", {}, host="evil.example", origin="https://evil.example")
    assert refused.status == 421


@asynchronous
async def test_page_without_tls_is_another_origin() -> None:
    browser, _ = with_provider(is_own_name=None, proxy_host=PUBLIC)
    refused = await browser.post("oidc", {}, host=PUBLIC, origin=f"http://{PUBLIC}")
    assert (refused.status, refused.json["code"]) == (403, "CrossOrigin")
