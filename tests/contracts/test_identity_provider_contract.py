"""The guarantees of each identity provider, with other vendors' servers behind it."""

from __future__ import annotations

import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest

from opentrail.adapters.data_directory.system import SystemClock
from opentrail.adapters.oidc_provider import OidcProvider
from opentrail.core.errors import SignInRefused
from opentrail.ports.services import IdentityProvider
from tests.fakes import asynchronous
from tests.stub_issuer import CLIENT, stub_issuer

BACK = "http://127.0.0.1:4748/console/oidc/callback"


@dataclass
class Subject:
    """A provider, and a user who signs in: URL → query of the redirect."""

    provider: IdentityProvider
    sign_in: Callable[[str], dict[str, str]]


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


def by_form(url: str) -> dict[str, str]:
    """Signs `ann` in at the provider's form; returns the query of its redirect."""
    form = urlencode({"sub": "ann"}).encode()
    try:
        urllib.request.build_opener(_Stay()).open(url, form, 30)
    except urllib.request.HTTPError as redirect:
        return dict(parse_qsl(urlsplit(redirect.headers["location"]).query))
    raise AssertionError("the provider did not redirect")


@pytest.fixture(params=["stub", "oidc-provider-mock"])
def subject(request: pytest.FixtureRequest) -> Iterator[Subject]:
    if request.param == "stub":
        with stub_issuer() as stub:
            stub.claims = {"sub": "ann"}
            provider = OidcProvider(stub.url, CLIENT, None, SystemClock())
            yield Subject(provider, stub.authorize)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mock = pytest.importorskip("oidc_provider_mock")
        with mock.run_server_in_thread(require_nonce=True) as server:
            url = f"http://localhost:{server.server_port}"
            yield Subject(OidcProvider(url, CLIENT, "secret", SystemClock()), by_form)


@pytest.mark.slow
@asynchronous
async def test_a_user_who_signs_in_is_named(subject: Subject) -> None:
    url, begun = await subject.provider.begin(BACK)
    claims = await subject.provider.finish(begun, subject.sign_in(url))
    assert claims["sub"] == "ann"


@pytest.mark.slow
@asynchronous
async def test_browser_carries_state_between_provider_and_console(
    subject: Subject,
) -> None:
    url, begun = await subject.provider.begin(BACK)
    asked = dict(parse_qsl(urlsplit(url).query))
    assert (asked["state"], asked["redirect_uri"]) == (begun.state, BACK)
    assert begun.verifier not in url
    assert subject.sign_in(url)["state"] == begun.state


@pytest.mark.slow
@asynchronous
async def test_answer_is_valid_only_for_its_sign_in(subject: Subject) -> None:
    url, begun = await subject.provider.begin(BACK)
    answer = subject.sign_in(url)
    with pytest.raises(SignInRefused):
        await subject.provider.finish(replace(begun, nonce="another"), answer)


@pytest.mark.slow
@asynchronous
async def test_a_refusal_is_a_refusal(subject: Subject) -> None:
    _, begun = await subject.provider.begin(BACK)
    with pytest.raises(SignInRefused, match="access_denied"):
        await subject.provider.finish(begun, {"error": "access_denied", "state": begun.state})
