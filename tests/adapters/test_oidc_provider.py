"""Answers of an OpenID Connect provider: valid ones, and those with which nobody may sign in."""

from __future__ import annotations

import asyncio
import base64
import hmac
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc.jwk import ECKey, RSAKey

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.oidc_provider import OidcProvider, is_safe
from opentrail.core.errors import SignInRefused
from tests.adapters.test_deadline import STARTS, never_ending
from tests.fakes import SettableClock, asynchronous, eventually
from tests.stub_issuer import CLIENT, CODE, SECRET, StubIssuer, stub_issuer

BACK = "http://127.0.0.1:4748/console/oidc/callback"


@pytest.fixture
def issuer() -> Iterator[StubIssuer]:
    with stub_issuer() as stub:
        yield stub


async def claims_by(
    issuer: StubIssuer, secret: str | None = None, **answer: str
) -> Mapping[str, Any]:
    """Signs in; returns the verified claims."""
    provider = OidcProvider(issuer.url, CLIENT, secret, SystemClock())
    url, begun = await provider.begin(BACK)
    return await provider.finish(begun, {**issuer.authorize(url), **answer})


@asynchronous
async def test_a_users_identity_comes_from_the_provider(issuer: StubIssuer) -> None:
    issuer.claims = {"roles": ["a"], "email": "ann@example.com"}
    claims = await claims_by(issuer)
    assert (claims["sub"], claims["roles"]) == ("user-1", ["a"])
    assert issuer.asked["response_type"] == "code"
    assert issuer.asked["code_challenge_method"] == "S256"
    assert issuer.asked["scope"].split()[0] == "openid"
    assert (issuer.forms[0]["code"], issuer.authorizations) == (CODE, [None])


@asynchronous
async def test_client_secret_is_sent_only_in_the_header(issuer: StubIssuer) -> None:
    await claims_by(issuer, SECRET)
    (authorization,) = issuer.authorizations
    assert authorization is not None
    pair = base64.b64decode(authorization.removeprefix("Basic ")).decode()
    assert pair == f"{CLIENT}:s3cret%3A%20very"
    assert SECRET not in str(issuer.forms)


@asynchronous
async def test_each_sign_in_has_its_own_secrets(issuer: StubIssuer) -> None:
    provider = OidcProvider(issuer.url, CLIENT, None, SystemClock())
    (_, one), (url, two) = await provider.begin(BACK), await provider.begin(BACK)
    for name in ("state", "nonce", "verifier"):
        assert getattr(one, name) != getattr(two, name)
        assert len(getattr(one, name)) >= 43
        assert getattr(one, name) not in repr(one)
    # An answer to one does not fit the other, by verifier and nonce.
    with pytest.raises(SignInRefused):
        await provider.finish(one, issuer.authorize(url))


@pytest.mark.parametrize(
    ("claims", "message"),
    [
        ({"iss": "https://evil.example"}, "iss"),
        ({"aud": "another-client"}, "aud"),
        ({"aud": [CLIENT, "another-client"]}, "another client"),
        ({"azp": "another-client"}, "another client"),
        ({"nonce": "guessed"}, "nonce"),
        ({"nonce": None}, "nonce"),
        ({"exp": int(time.time()) - 600}, "expired"),
        ({"exp": None}, "exp"),
        ({"iat": None}, "iat"),
        ({"iat": int(time.time()) + 1_000_000}, "in the future"),
        ({"nbf": int(time.time()) + 1_000_000}, "not yet valid"),
        ({"sub": None}, "sub"),
        ({"aud": None}, "aud"),
    ],
)
@asynchronous
async def test_a_token_for_another_use_is_refused(
    issuer: StubIssuer, claims: dict[str, Any], message: str
) -> None:
    issuer.claims = claims
    with pytest.raises(SignInRefused, match=f"(?i){message}"):
        await claims_by(issuer)


def joined(*parts: bytes) -> str:
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def unsigned(claims: dict[str, Any]) -> str:
    return joined(b'{"alg":"none"}', json.dumps(claims).encode(), b"")


def by_secret(claims: dict[str, Any], secret: bytes) -> str:
    """Returns a token signed with a public key as the secret."""
    parts = (b'{"alg":"HS256","kid":"1"}', json.dumps(claims).encode())
    return joined(*parts, hmac.digest(secret, joined(*parts).encode(), "sha256"))


@pytest.mark.parametrize("forgery", ["none", "hs256", "other key", "es256", "cut", "text"])
@asynchronous
async def test_a_forged_token_is_refused(issuer: StubIssuer, forgery: str) -> None:
    if forgery == "none":
        issuer.make_token = unsigned
    elif forgery == "hs256":  # the published key as the shared secret
        assert isinstance(issuer.key, RSAKey)
        secret = issuer.key.as_pem(private=False)
        issuer.make_token = lambda claims: by_secret(claims, secret)
    elif forgery == "other key":
        issuer.signer = RSAKey.generate_key(2048, {"kid": "1"})
    elif forgery == "es256":  # an algorithm that the provider does not list
        issuer.key = ECKey.generate_key("P-256", {"kid": "1"})
        issuer.header = {"alg": "ES256", "kid": "1"}
    elif forgery == "cut":
        issuer.make_token = lambda claims: unsigned(claims)[:-20]
    else:
        issuer.make_token = lambda _: "\u00fc not a token"
    with pytest.raises(SignInRefused, match="not valid"):
        await claims_by(issuer)


@asynchronous
async def test_the_providers_listed_algorithms_are_accepted(issuer: StubIssuer) -> None:
    issuer.key = ECKey.generate_key("P-256", {"kid": "1"})
    issuer.header, issuer.algorithms = {"alg": "ES256", "kid": "1"}, ["RS256", "ES256"]
    assert (await claims_by(issuer))["sub"] == "user-1"


@pytest.mark.parametrize(
    ("published", "message"),
    [
        ({"issuer": "https://evil.example"}, "the issuer must be"),
        ({"token_endpoint": "http://evil.example/token"}, "token_endpoint must be an https URL"),
        ({"jwks_uri": "file:///etc/passwd"}, "jwks_uri must be an https URL"),
        ({"authorization_endpoint": "javascript:alert(1)"}, "authorization_endpoint must be"),
        ({"token_endpoint": None}, "token_endpoint must be"),
        ({"id_token_signing_alg_values_supported": ["none", "HS256"]}, "supports none of"),
        ({"id_token_signing_alg_values_supported": "RS256"}, "supports none of"),
    ],
)
@asynchronous
async def test_a_provider_that_publishes_unsafe_values_is_refused(
    issuer: StubIssuer, published: dict[str, Any], message: str
) -> None:
    issuer.published = published
    with pytest.raises(SignInRefused, match=message):
        await claims_by(issuer)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"error": "access_denied"}, "access_denied"),
        ({"iss": "https://evil.example"}, "another provider"),
        ({"code": ""}, "no code"),
        ({"code": "another"}, "400"),
    ],
)
@asynchronous
async def test_a_refusal_or_wrong_code_signs_nobody_in(
    issuer: StubIssuer, answer: dict[str, str], message: str
) -> None:
    with pytest.raises(SignInRefused, match=message):
        await claims_by(issuer, **answer)


@asynchronous
async def test_redirects_of_the_provider_are_not_followed(issuer: StubIssuer) -> None:
    issuer.published = {"jwks_uri": f"{issuer.url}/moved"}
    with pytest.raises(SignInRefused, match="302"):
        await claims_by(issuer)


@asynchronous
async def test_a_silent_provider_is_named() -> None:
    provider = OidcProvider("http://127.0.0.1:9", CLIENT, None, SystemClock())
    with pytest.raises(SignInRefused, match=r"http://127\.0\.0\.1:9.* failed"):
        await provider.begin(BACK)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "start"), [*STARTS, ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 999999\r\n\r\n")]
)
@asynchronous
async def test_a_provider_with_an_endless_answer_is_named(
    scheme: str, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with never_ending(monkeypatch, start) as address:
        provider = OidcProvider(f"{scheme}://{address}", CLIENT, None, SystemClock())
        with pytest.raises(SignInRefused, match=f"{address}.* failed"):
            await provider.begin(BACK)


@asynchronous
async def test_sign_ins_read_metadata_every_five_minutes(
    issuer: StubIssuer,
) -> None:
    clock = SettableClock()
    provider = OidcProvider(issuer.url, CLIENT, None, clock)
    await asyncio.gather(*(provider.begin(BACK) for _ in range(50)))
    assert issuer.discoveries == 1
    clock.advance(300)
    await provider.begin(BACK)
    assert issuer.discoveries == 1
    clock.advance(1)
    issuer.published = {"authorization_endpoint": f"{issuer.url}/elsewhere"}
    url, _ = await provider.begin(BACK)
    assert (url.partition("?")[0], issuer.discoveries) == (f"{issuer.url}/elsewhere", 2)


@asynchronous
async def test_a_hanging_provider_leaves_threads_to_others(issuer: StubIssuer) -> None:
    provider = OidcProvider(issuer.url, CLIENT, None, SystemClock())
    url, begun = await provider.begin(BACK)
    answer = issuer.authorize(url)
    issuer.go_on.clear()
    with ThreadPoolExecutor(3) as pool:
        asyncio.get_running_loop().set_default_executor(pool)
        coming_back = [asyncio.ensure_future(provider.finish(begun, answer)) for _ in range(20)]
        try:
            await eventually(lambda: len(issuer.waiting) == 2)
            assert await asyncio.wait_for(asyncio.to_thread(str, "another's"), 30) == "another's"
            assert len(issuer.waiting) == 2
        finally:
            issuer.go_on.set()
            came = await asyncio.gather(*coming_back)
        assert [claims["sub"] for claims in came] == ["user-1"] * 20


@pytest.mark.parametrize(
    "url", ["", "https://", "http://id.example", "ftp://localhost", "https://["]
)
def test_unsafe_urls_are_recognized(url: str) -> None:
    assert not is_safe(url)
