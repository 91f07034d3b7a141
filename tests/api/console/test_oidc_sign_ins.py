"""Sign-ins at a provider over HTTP: each with the provider's answers, and the user, if any."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from http.cookies import SimpleCookie
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey

from opentrail.access.users import ConsoleRole, identity_of_user
from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.adapters.oidc_provider import OidcProvider
from opentrail.api.console.oidc import CALLBACK, OidcLogin
from tests.api.browser import HOST, Browser
from tests.api.caller import Answer, send
from tests.factories import ACCOUNT
from tests.fakes import SettableClock, asynchronous
from tests.stub_issuer import CLIENT, CODE, SECRET, StubIssuer, stub_issuer

ROLES = {
    "readers": ConsoleRole.VIEWER,
    "leads": ConsoleRole.ADMIN,
    "boss@example.com": ConsoleRole.ADMIN,
    "+4912345": ConsoleRole.OPERATOR,
    "user-1": ConsoleRole.AUDITOR,
}
HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
NOW = int(time.time())
DEEP = b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
#: Parsers accept it; recursive code may not.
NESTED = b'{"x":' + b"[" * 500 + b"]" * 500 + b"}"


@cache
def rsa_key(name: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": "1"})


@cache
def small_rsa_key(bits: int) -> RSAKey:
    with pytest.warns(Warning, match="Key size"):
        return RSAKey.import_key(rsa.generate_private_key(65537, bits), {"kid": "1"})


@cache
def ec_key(curve: str = "P-256", name: str = "") -> ECKey:
    return ECKey.generate_key(curve, {"kid": "1"})


@cache
def ed_key() -> OKPKey:
    return OKPKey.generate_key("Ed25519", {"kid": "1"})


def public(key: Key, **changes: Any) -> dict[str, Any]:
    made = {**key.as_dict(private=False), **changes}
    return {name: value for name, value in made.items() if value is not None}


def own(**changes: Any) -> dict[str, Any]:
    return public(rsa_key("own"), **changes)


def token_of(header: bytes, payload: bytes) -> str:
    parts = (header, payload, b"signature")
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


@dataclass(frozen=True)
class Case:
    """A provider's answers, and the user who is signed in: None for nobody."""

    name: str
    signs_in: str | None
    claims: dict[str, Any] = field(default_factory=dict)
    status: int = 401
    role: str = "viewer"
    role_claim: str = "groups"
    header: dict[str, Any] = field(default_factory=dict)
    signer: Callable[[], Key] = lambda: rsa_key("own")
    keys: Callable[[], list[Any]] = lambda: [own()]
    bodies: dict[str, bytes] = field(default_factory=dict)
    published: dict[str, Any] = field(default_factory=dict)
    token: Callable[[dict[str, Any]], str] | None = None
    answer: dict[str, str] = field(default_factory=dict)
    accounts_claim: str | None = None
    accounts: tuple[str, ...] | None = None


def refused(name: str, **changes: Any) -> Case:
    """The provider's answer is invalid: the record names nobody."""
    return Case(name, None, **changes)


def roleless(name: str, user: str, **changes: Any) -> Case:
    """A user of the provider has no role here."""
    return Case(name, user, status=403, **changes)


def accepted(name: str, user: str = "user-1", **changes: Any) -> Case:
    return Case(name, user, status=303, **changes)


MAIL = {"email": "boss@example.com"}
VERIFIED = {**MAIL, "email_verified": True}

CASES = [
    # Roles by a claim
    accepted("group"),
    accepted("groups", claims={"groups": ["others", "leads", "readers"]}, role="admin"),
    roleless("no claim", "user-1", claims={"groups": None}),
    roleless("other group", "user-1", claims={"groups": "others"}),
    roleless("no groups", "user-1", claims={"groups": []}),
    roleless("object as groups", "user-1", claims={"groups": {"readers": True}}),
    roleless("number as groups", "user-1", claims={"groups": 7}),
    roleless("list in groups", "user-1", claims={"groups": [["readers"]]}),
    roleless("group in other case", "user-1", claims={"groups": "Readers"}),
    roleless("group with space", "user-1", claims={"groups": "readers "}),
    roleless("group in a string", "user-1", claims={"groups": "readers leads"}),
    accepted("subject as role", role_claim="sub", role="auditor"),
    # Roles by an address
    accepted("verified", "boss@example.com", claims=VERIFIED, role="admin", role_claim="email"),
    *(
        roleless(
            f"email_verified {value!r}",
            "user-1",
            claims={**MAIL, "email_verified": value},
            role_claim="email",
        )
        for value in (None, False, "false", "true", "True", 1, 1.5, [True], {"a": True}, "")
    ),
    roleless(
        "list of addresses", "user-1", claims={"email": ["boss@example.com"]}, role_claim="email"
    ),
    roleless(
        "phone number", "user-1", claims={"phone_number": "+4912345"}, role_claim="phone_number"
    ),
    accepted(
        "verified phone number",
        claims={"phone_number": "+4912345", "phone_number_verified": True},
        role="operator",
        role_claim="phone_number",
    ),
    # Roles by a path
    accepted(
        "nested role",
        claims={"realm_access": {"roles": ["leads"]}},
        role_claim="realm_access.roles",
        role="admin",
    ),
    accepted(
        "literal claim before path",
        claims={"realm_access.roles": "readers", "realm_access": {"roles": ["leads"]}},
        role_claim="realm_access.roles",
    ),
    roleless(
        "literal claim without role",
        "user-1",
        claims={"realm_access.roles": [], "realm_access": {"roles": ["leads"]}},
        role_claim="realm_access.roles",
    ),
    accepted(
        "path in a URL",
        claims={"https://a.example/x": {"roles": "readers"}},
        role_claim="https://a.example/x.roles",
    ),
    accepted(
        "client role",
        claims={"resource_access": {"open.trail": {"roles": ["readers"]}}},
        role_claim="resource_access.open.trail.roles",
    ),
    *(
        roleless(f"path through {value!r}", "user-1", claims={"a": value}, role_claim="a.b")
        for value in (
            None,
            "readers",
            ["readers"],
            [{"b": "readers"}],
            {},
            {"b": {"c": "readers"}},
            7,
        )
    ),
    roleless("nested address", "user-1", claims={"a": MAIL}, role_claim="a.email"),
    accepted("nested verified address", claims={"a": VERIFIED}, role_claim="a.email", role="admin"),
    # Accounts
    *(
        accepted(
            f"accounts {value!r}",
            claims={"accounts": value},
            accounts_claim="accounts",
            accounts=accounts,
        )
        for value, accounts in (
            ("111111111111", ("111111111111",)),
            (["222222222222", "111111111111"], ("111111111111", "222222222222")),
            (["111111111111", "x", 5, "111111111111"], ("111111111111",)),
            ("*", None),
            (["111111111111", "*"], None),
        )
    ),
    accepted(
        "nested accounts",
        claims={"a": {"b": "111111111111"}},
        accounts_claim="a.b",
        accounts=("111111111111",),
    ),
    accepted("accounts without claim", claims={"accounts": "111111111111"}),
    *(
        roleless(
            f"no accounts {value!r}",
            "user-1",
            claims={"accounts": value},
            accounts_claim="accounts",
        )
        for value in (None, "", [], "1111", ["**"], 111111111111, {"111111111111": True}, "all")
    ),
    # Names
    accepted("name", "ann", claims={"preferred_username": "ann"}),
    accepted("name of words", "Ann B. Smith", claims={"preferred_username": "Ann B. Smith"}),
    accepted("name of letters", "Jos\u00e9", claims={"preferred_username": "Jos\u00e9"}),
    accepted("address as name", claims={"preferred_username": "boss@example.com"}),
    accepted("unverified address as name", claims={**MAIL, "preferred_username": MAIL["email"]}),
    accepted(
        "text of verified address as name",
        claims={**MAIL, "preferred_username": MAIL["email"], "email_verified": "true"},
    ),
    accepted(
        "verified address as name",
        "boss@example.com",
        claims={**VERIFIED, "preferred_username": MAIL["email"]},
    ),
    accepted(
        "a name with an address of another",
        "boss@example.com",
        claims={**VERIFIED, "preferred_username": "ceo@example.com"},
    ),
    accepted("verified address", "boss@example.com", claims=VERIFIED),
    *(
        accepted(f"name {name!r}", claims={"preferred_username": name})
        for name in (
            *("", " ", "   ", " ann", "ann ", "ann  b", "\u00a0", "\u200b", "ann\n", "\u202eann"),
            *("<b>", "a" * 129, "\uff41nn", "ann\x00", "ann:b", 7, ["ann"], {"a": 1}, True),
        )
    ),
    accepted("subject without name", "unnamed", claims={"sub": "<sub>"}),
    # Subjects
    *(
        refused(f"subject {subject!r:.20}", claims={"sub": subject})
        for subject in (None, "", " ", "x" * 256, 7, ["user-1"], True, "\ud800", "a\nb", "\x00")
    ),
    accepted("long subject", "unnamed", claims={"sub": "x" * 255}),
    # Claims about the token
    *(
        refused(f"nonce {name}", claims={"nonce": value})
        for name, value in (
            *(("missing", None), ("other", "guessed"), ("empty", ""), ("number", 1)),
            *(("boolean", True), ("object", {"a": 1})),
        )
    ),
    refused("issuer", claims={"iss": "https://evil.example"}),
    refused("no issuer", claims={"iss": None}),
    refused("audience", claims={"aud": "another"}),
    refused("no audience", claims={"aud": None}),
    refused("audience of numbers", claims={"aud": [7]}),
    refused("two audiences", claims={"aud": [CLIENT, "another"]}),
    accepted("two audiences with party", claims={"aud": [CLIENT, "another"], "azp": CLIENT}),
    accepted("audience in list", claims={"aud": [CLIENT]}),
    refused("other party", claims={"azp": "another"}),
    refused("list of parties", claims={"azp": [CLIENT]}),
    refused("expired", claims={"exp": NOW - 600}),
    refused("no expiry", claims={"exp": None}),
    refused("text as expiry", claims={"exp": str(NOW + 300)}),
    refused("infinite expiry", claims={"exp": float("inf")}),
    refused("ten days old", claims={"iat": NOW - 864_000}),
    refused("two hours old", claims={"iat": NOW - 7_200}),
    accepted("ten minutes old", claims={"iat": NOW - 600}),
    refused("of the future", claims={"iat": NOW + 10**6}),
    refused("no time of issue", claims={"iat": None}),
    refused("text as time of issue", claims={"iat": str(NOW)}),
    refused("boolean as time of issue", claims={"iat": True}),
    refused("not yet valid", claims={"nbf": NOW + 10**6}),
    refused("nested claim", claims={"x": json.loads(b"[" * 40 + b"]" * 40)}),
    accepted("claim with levels", claims={"x": json.loads(b"[" * 20 + b"]" * 20)}),
    # Keys
    *(
        accepted(f"key beside {name}", keys=lambda other=other: [other, own(), other])
        for name, other in (
            ("unknown curve", {"kty": "EC", "crv": "P-1024", "x": "AA", "y": "AA", "kid": "1"}),
            ("unknown type", {"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA", "kid": "1"}),
            ("no type", {"kid": "1"}),
            ("list as type", {"kty": ["RSA"], "kid": "1"}),
            ("missing member", {"kty": "RSA", "kid": "1", "e": "AQAB"}),
            ("bad base64", {"kty": "RSA", "kid": "1", "e": "AQAB", "n": "\u00fc"}),
            (
                "point off the curve",
                {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "1"},
            ),
            ("secret", {"kty": "oct", "k": "c2VjcmV0", "kid": "1"}),
            ("list", ["kid", "1"]),
            ("number", 7),
            ("null", None),
        )
    ),
    accepted("second key of id", keys=lambda: [public(rsa_key("other")), own()]),
    accepted("key of id after other type", keys=lambda: [public(ec_key()), own()]),
    accepted("key after encryption key", keys=lambda: [public(rsa_key("other"), use="enc"), own()]),
    refused("encryption key", keys=lambda: [own(use="enc")]),
    refused("key of other algorithm", keys=lambda: [own(alg="RS512")]),
    accepted("key of algorithm", keys=lambda: [own(alg="RS256", use="sig")]),
    accepted("key without id", header={"kid": None}),
    accepted(
        "second key without id",
        header={"kid": None},
        keys=lambda: [public(rsa_key("other"), kid=None), own(kid=None)],
    ),
    refused("other id", keys=lambda: [own(kid="2")]),
    refused("other key", keys=lambda: [public(rsa_key("other"))]),
    refused("no keys", keys=list),
    refused("16 other keys before", keys=lambda: [public(rsa_key("other"))] * 16 + [own()]),
    accepted(
        "5,000 keys", keys=lambda: [public(ec_key(), kid=str(n)) for n in range(2, 5_002)] + [own()]
    ),
    refused(
        "key of 1,024 bits",
        signer=lambda: small_rsa_key(1_024),
        keys=lambda: [public(small_rsa_key(1_024))],
    ),
    refused(
        "key of 2,047 bits",
        signer=lambda: small_rsa_key(2_047),
        keys=lambda: [public(small_rsa_key(2_047))],
    ),
    refused(
        "modulus with zeros before", signer=lambda: small_rsa_key(1_024), keys=lambda: [padded()]
    ),
    accepted("ES256", header={"alg": "ES256"}, signer=ec_key, keys=lambda: [public(ec_key())]),
    accepted(
        "ES384",
        header={"alg": "ES384"},
        signer=lambda: ec_key("P-384"),
        keys=lambda: [public(ec_key("P-256")), public(ec_key("P-384"))],
    ),
    accepted("PS256", header={"alg": "PS256"}),
    accepted(
        "Ed25519",
        header={"alg": "Ed25519"},
        signer=ed_key,
        keys=lambda: [public(ed_key())],
    ),
    # Invalid answers
    *(
        refused(f"{name} {path}", bodies={path: body})
        for path in ("/token", "/keys")
        for name, body in (
            *(("deep", DEEP), ("nested", NESTED), ("list", b"[]"), ("text", b"nothing")),
            *(("empty object", b"{}"), ("not UTF-8", b'{"\xff": 1}'), ("null", b"null")),
            ("long", b'{"x": "' + b"x" * 1_000_000 + b'"}'),
        )
    ),
    refused("object as keys", bodies={"/keys": b'{"keys": {"1": {}}}'}),
    refused("deep claims", token=lambda _: token_of(b'{"alg":"RS256","kid":"1"}', DEEP)),
    refused("deep header", token=lambda _: token_of(DEEP, b"{}")),
    refused("nested id", token=lambda _: token_of(b'{"alg":"RS256","kid":%s}' % NESTED, b"{}")),
    refused("surrogate as id", token=lambda _: token_of(b'{"alg":"RS256","kid":"\\ud800"}', b"{}")),
    refused("algorithm none", token=lambda _: token_of(b'{"alg":"none"}', b"{}")),
    refused("HS256", token=lambda _: token_of(b'{"alg":"HS256","kid":"1"}', b"{}")),
    refused(
        "critical header", token=lambda _: token_of(b'{"alg":"RS256","crit":["x"],"x":1}', b"{}")
    ),
    refused("no token", token=lambda _: ""),
    refused("two parts", token=lambda _: "a.b"),
    refused("denied", answer={"error": "access_denied"}),
    refused("surrogates in error", answer={"error": "%ED%A0%80"}),
    refused("other code", answer={"code": "another"}),
    refused("no code", answer={"code": ""}),
    refused("answer of another issuer", answer={"iss": "https://evil.example"}),
]


def padded() -> dict[str, Any]:
    """Returns a key of 1,024 bits that claims to have 2,048."""
    short = public(small_rsa_key(1_024))
    modulus = base64.urlsafe_b64decode(short["n"] + "==")
    return {**short, "n": base64.urlsafe_b64encode(modulus.rjust(256, b"\0")).rstrip(b"=").decode()}


@pytest.fixture
def issuer() -> Iterator[StubIssuer]:
    with stub_issuer() as stub:
        stub.algorithms = ["RS256", "PS256", "ES256", "ES384", "Ed25519", "none", "HS256"]
        stub.claims = {"groups": "readers"}
        yield stub


def browser_at(
    issuer: StubIssuer, role_claim: str = "groups", accounts_claim: str | None = None
) -> Browser:
    provider = OidcProvider(issuer.url, CLIENT, SECRET, SystemClock())
    login = OidcLogin(provider, role_claim, ROLES, AesGcmSealer(b"m" * 32), accounts_claim)
    browser = Browser(oidc=login)
    browser.cookie = None
    return browser


async def sign_in(browser: Browser, issuer: StubIssuer, **answer: str) -> Answer:
    """Signs in like a browser; it keeps a new session."""
    begun = await browser.post("oidc", {})
    assert begun.status == 200, begun.body
    cookie = SimpleCookie(begun.headers["set-cookie"])["ot-oidc"].value
    given = {**issuer.authorize(begun.body.decode()), **answer}
    query = "&".join(f"{name}={value}" for name, value in given.items())
    headers = {"host": HOST, "cookie": f'ot-oidc="{cookie}"'}
    came = await send(browser.app, "GET", f"{CALLBACK}?{query}", headers)
    if came.status == 303:
        cookies = SimpleCookie(came.cookies).values()
        browser.cookie = next(part.value for part in cookies if part.key == "ot-session")
    return came


def records(browser: Browser) -> list[dict[str, Any]]:
    return [json.loads(entry.record) for entry in browser.api.world.entries]


def test_cases_have_unique_names() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 120


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=[ascii(case.name) for case in CASES])
@asynchronous
async def test_sign_in_has_its_outcome(issuer: StubIssuer, case: Case) -> None:
    issuer.claims |= case.claims
    header = {"alg": "RS256", "kid": "1", **case.header}
    issuer.header = {name: value for name, value in header.items() if value is not None}
    issuer.signer, issuer.keys = case.signer(), case.keys()
    issuer.bodies, issuer.make_token = case.bodies, case.token
    browser = browser_at(issuer, case.role_claim, case.accounts_claim)
    answer = await sign_in(browser, issuer, **case.answer)
    assert answer.status == case.status, answer.body
    (record,) = records(browser)
    outcome, identity = record["responseElements"]["ConsoleLogin"], record["userIdentity"]
    assert outcome == ("Success" if case.status == 303 else "Failure")
    if case.signs_in is None:
        assert identity == {"type": "IAMUser", "accountId": ACCOUNT, "userName": HIDDEN}
        return
    subject = (issuer.url, case.claims.get("sub", "user-1"))
    assert identity == identity_of_user(ACCOUNT, f"oidc:{case.signs_in}", subject)
    more = record["additionalEventData"]
    assert (more["OidcIssuer"], more["OidcSubject"]) == subject
    if case.status == 303:
        session = (await browser.get("session")).json
        assert (session["user"], session["role"]) == (f"oidc:{case.signs_in}", case.role)
        found = await browser.sessions.find(browser.cookie or "")
        assert found is not None
        assert found.user.accounts == case.accounts


@asynchronous
async def test_nonce_in_list_is_refused(issuer: StubIssuer) -> None:
    browser = browser_at(issuer)
    begun = await browser.post("oidc", {})
    issuer.authorize(begun.body.decode())
    issuer.claims["nonce"] = [issuer.asked["nonce"]]
    cookie = SimpleCookie(begun.headers["set-cookie"])["ot-oidc"].value
    headers = {"host": HOST, "cookie": f'ot-oidc="{cookie}"'}
    query = f"state={issuer.asked['state']}&code={CODE}"
    assert (await send(browser.app, "GET", f"{CALLBACK}?{query}", headers)).status == 401
    assert [record["userIdentity"]["userName"] for record in records(browser)] == [HIDDEN]


@asynchronous
async def test_two_subjects_share_no_principal(issuer: StubIssuer) -> None:
    browser = browser_at(issuer)
    issuer.claims["preferred_username"] = "ann"
    for subject in ("user-1", "user-2", "user-1"):
        issuer.claims["sub"] = subject
        await sign_in(browser, issuer)
    one, two, again = (record["userIdentity"] for record in records(browser))
    assert one["userName"] == two["userName"] == "oidc:ann"
    assert one["principalId"] == again["principalId"] != two["principalId"]


@asynchronous
async def test_renamed_user_keeps_its_principal(issuer: StubIssuer) -> None:
    browser = browser_at(issuer)
    for name in ("ann", "root"):
        issuer.claims["preferred_username"] = name
        await sign_in(browser, issuer)
    one, two = (record["userIdentity"] for record in records(browser))
    assert (one["userName"], two["userName"]) == ("oidc:ann", "oidc:root")
    assert one["principalId"] == two["principalId"]


@asynchronous
async def test_changes_have_the_principal_of_sign_in(issuer: StubIssuer) -> None:
    browser = browser_at(issuer)
    issuer.claims["groups"] = "leads"
    await sign_in(browser, issuer)
    assert (await browser.post("users", {"name": "bob", "role": "viewer"})).status == 200
    signed_in, created = records(browser)
    assert created["eventName"] == "CreateConsoleUser"
    assert created["userIdentity"] == signed_in["userIdentity"]


@asynchronous
async def test_nested_discovery_is_refused(issuer: StubIssuer) -> None:
    for body in (DEEP, NESTED):
        issuer.bodies = {"/.well-known/openid-configuration": body}
        answer = await browser_at(issuer).post("oidc", {})
        assert (answer.status, answer.json["code"]) == (502, "SignInRefused")


async def finish(provider: OidcProvider, issuer: StubIssuer) -> None:
    url, begun = await provider.begin("http://127.0.0.1:4748/console/oidc/callback")
    await provider.finish(begun, issuer.authorize(url))


@asynchronous
async def test_keys_are_fetched_once_in_five_minutes(issuer: StubIssuer) -> None:
    clock = SettableClock(SystemClock().now())
    provider = OidcProvider(issuer.url, CLIENT, SECRET, clock)
    for _ in range(20):
        await finish(provider, issuer)
    assert issuer.key_fetches == 1
    issuer.claims["exp"] = int(time.time()) + 3_600
    clock.advance(301)
    await finish(provider, issuer)
    assert issuer.key_fetches == 2


@asynchronous
async def test_new_key_is_fetched_after_ten_seconds(issuer: StubIssuer) -> None:
    clock = SettableClock(SystemClock().now())
    provider = OidcProvider(issuer.url, CLIENT, SECRET, clock)
    await finish(provider, issuer)
    issuer.key = RSAKey.generate_key(2048, {"kid": "2"})
    issuer.header = {"alg": "RS256", "kid": "2"}
    clock.advance(11)
    await finish(provider, issuer)
    assert issuer.key_fetches == 2
    issuer.header = {"alg": "RS256", "kid": "3"}
    for _ in range(20):
        with pytest.raises(Exception, match="no such key"):
            await finish(provider, issuer)
    assert issuer.key_fetches == 2


@asynchronous
async def test_administrator_ends_sessions_of_a_user(issuer: StubIssuer) -> None:
    browser = browser_at(issuer)
    await sign_in(browser, issuer)
    cookie = browser.cookie
    browser.open_link()
    given = {"name": "oidc:user-1", "action": "end-sessions"}
    assert (await browser.post("users/change", given)).json == {"endedSessions": 1}
    assert (await browser.get("session")).status == 200
    browser.cookie = cookie
    assert (await browser.get("session")).status == 401
