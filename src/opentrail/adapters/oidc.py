"""Sign-in by a provider of OpenID Connect: authorization code with PKCE (RFC 7636)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.jwt import JWTClaimsRegistry

from opentrail.adapters.deadline import connections_until
from opentrail.core.errors import SignInRefused
from opentrail.ports.clock import Clock
from opentrail.ports.identity_provider import BegunSignIn

#: Seconds of the provider's silence.
_SECONDS = 10.0
#: Maximum bytes of an answer.
_MAX_ANSWER_BYTES = 1_000_000
#: Requests at a time: anyone may cause them, and each has a thread while the provider hangs.
_MAX_REQUESTS = 2
#: How long a provider's published addresses are used.
_DISCOVERED = timedelta(minutes=5)
#: Seconds by which the provider's clock may differ.
_LEEWAY = 60
#: Signatures by a private key that the provider alone has.
_ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)


@dataclass(frozen=True, slots=True)
class _Discovered:
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    algorithms: tuple[str, ...]


class OidcProvider:
    """An `IdentityProvider`.

    Args:
        issuer: its identifier, a URL; every token must be of it.
        client_id: this server's name there.
        client_secret: this server's secret there; None for a public client.
        clock: the time that tokens are compared with.
    """

    def __init__(
        self, issuer: str, client_id: str, client_secret: str | None, clock: Clock
    ) -> None:
        self._issuer, self._client_id, self._secret = issuer, client_id, client_secret
        self._clock = clock
        self._requests = asyncio.Semaphore(_MAX_REQUESTS)
        self._discovering = asyncio.Lock()
        #: What was discovered, and until when it is used.
        self._discovered: tuple[_Discovered, datetime] | None = None

    async def begin(self, redirect_uri: str) -> tuple[str, BegunSignIn]:
        """Returns the URL to send a browser to, and what must be known when it comes back."""
        provider = await self._discover()
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        digest = hashlib.sha256(verifier.encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._client_id,
            "redirect_uri": redirect_uri,
            "scope": "openid profile email",
            "state": state,
            "nonce": nonce,
            "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        mark = "&" if urlsplit(provider.authorization_endpoint).query else "?"
        url = f"{provider.authorization_endpoint}{mark}{urlencode(query)}"
        return url, BegunSignIn(state, nonce, verifier, redirect_uri)

    async def finish(self, begun: BegunSignIn, answer: Mapping[str, str]) -> Mapping[str, Any]:
        """Returns the claims about the user, all of them verified."""
        if answer.get("error"):
            raise _refused(f"the provider answered {answer['error'][:200]!r}")
        if answer.get("iss", self._issuer) != self._issuer:  # RFC 9207
            raise _refused("another provider answered")
        if not answer.get("code"):
            raise _refused("the provider sent no code")
        provider = await self._discover()
        token = await self._exchange(provider, begun, answer["code"])
        keys = await self._fetch(urllib.request.Request(provider.jwks_uri))  # noqa: S310 - checked
        return self._verified(token, keys, provider, begun.nonce)

    async def _discover(self) -> _Discovered:
        """Returns the provider's addresses and algorithms, those of five minutes ago at most."""
        async with self._discovering:
            now = self._clock.now()
            if self._discovered is None or self._discovered[1] < now:
                self._discovered = await self._fetch_discovered(), now + _DISCOVERED
            return self._discovered[0]

    async def _fetch_discovered(self) -> _Discovered:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._fetch(urllib.request.Request(url))  # noqa: S310 - of the settings
        if document.get("issuer") != self._issuer:
            raise _refused(f"the issuer must be {self._issuer}, not {document.get('issuer')!r}")
        endpoints = []
        for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
            endpoint = document.get(name)
            if not isinstance(endpoint, str) or not is_safe(endpoint):
                raise _refused(f"the provider's {name} must be an https URL, not {endpoint!r}")
            endpoints.append(endpoint)
        offered = document.get("id_token_signing_alg_values_supported")
        names = offered if isinstance(offered, list) else []
        algorithms = tuple(name for name in _ALGORITHMS if name in names)
        if not algorithms:
            raise _refused(f"the provider signs by none of {', '.join(_ALGORITHMS)}")
        authorization, token, keys = endpoints
        return _Discovered(authorization, token, keys, algorithms)

    async def _exchange(self, provider: _Discovered, begun: BegunSignIn, code: str) -> str:
        """Returns the id token for a code."""
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": begun.redirect_uri,
            "code_verifier": begun.verifier,
            "client_id": self._client_id,
        }
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        if self._secret is not None:
            pair = f"{quote(self._client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        request = urllib.request.Request(  # noqa: S310 - checked when it was discovered
            provider.token_endpoint, urlencode(form).encode(), headers
        )
        token = (await self._fetch(request)).get("id_token")
        if not isinstance(token, str):
            raise _refused("the provider sent no id token")
        return token

    def _verified(
        self, token: str, keys: Any, provider: _Discovered, nonce: str
    ) -> Mapping[str, Any]:
        now = int(self._clock.now().timestamp())
        registry = JWTClaimsRegistry(
            now=now,
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True, "value": nonce},
        )
        try:
            claims = jwt.decode(
                token, KeySet.import_key_set(keys), algorithms=list(provider.algorithms)
            ).claims
            registry.validate(claims)
        except (JoseError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise _refused(f"the id token is not valid: {error}") from error
        audience = claims["aud"]
        is_alone = isinstance(audience, str) or len(audience) == 1
        if claims.get("azp", self._client_id if is_alone else None) != self._client_id:
            raise _refused("the id token is for another client")
        return claims

    async def _fetch(self, request: urllib.request.Request) -> dict[str, Any]:
        """Returns the JSON object that the provider answers."""

        def fetch() -> bytes:
            with contextlib.ExitStack() as end:
                opener = urllib.request.build_opener(_NoRedirects, _Connections(end))
                answer = end.enter_context(opener.open(request, timeout=_SECONDS))
                return bytes(answer.read(_MAX_ANSWER_BYTES + 1))

        try:
            async with self._requests:
                body = await asyncio.to_thread(fetch)
            document = json.loads(body) if len(body) <= _MAX_ANSWER_BYTES else None
        except (OSError, HTTPException, ValueError) as error:
            raise _refused(f"{request.full_url} failed: {error}") from error
        if not isinstance(document, dict):
            raise _refused(f"{request.full_url} did not answer a JSON object")
        return document


def is_safe(url: str) -> bool:
    """Returns whether a URL is https, or of this machine.

    >>> is_safe("https://id.example/x"), is_safe("http://id.example"), is_safe("http://localhost:1")
    (True, False, True)
    """
    try:
        parts = urlsplit(url)
        hostname = parts.hostname
    except ValueError:
        return False
    is_local = parts.scheme == "http" and hostname in ("localhost", "127.0.0.1", "::1")
    return bool(hostname) and (parts.scheme == "https" or is_local)


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Leaves redirects alone: the provider's addresses are those that it has published."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Connections(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens connections that have a deadline until `end` is closed."""

    def __init__(self, end: contextlib.ExitStack) -> None:
        super().__init__()
        self._by_http, self._by_https = connections_until(end)

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._by_http, request)

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._by_https, request)


def _refused(reason: str) -> SignInRefused:
    return SignInRefused(f"Signing in failed: {reason}.", is_known=False)
