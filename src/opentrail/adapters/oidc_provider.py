"""Sign-in by a provider of OpenID Connect: authorization code with PKCE (RFC 7636)."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import secrets
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from http.client import HTTPException, HTTPResponse
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, Key, OKPKey, RSAKey
from joserfc.jwt import JWTClaimsRegistry

from opentrail.adapters.outgoing_http import connections_until
from opentrail.core.errors import SignInRefused
from opentrail.ports.clock import Clock
from opentrail.ports.services import BegunSignIn

#: Seconds of the provider's silence.
_SILENCE_SECONDS = 10.0
#: Maximum bytes of an answer.
_MAX_ANSWER_BYTES = 1_000_000
#: Maximum concurrent requests: anyone may cause them, and each has a thread while the provider
#: hangs.
_MAX_REQUESTS = 2
#: Lifetime of a provider's cached addresses.
_DISCOVERED = timedelta(minutes=5)
#: Maximum difference of the provider's clock, in seconds.
_LEEWAY = 60
#: Maximum seconds since an id token was issued. A user has ten minutes at the provider, some
#: providers issue the token when the user arrives, and tokens usually expire after an hour.
_MAX_TOKEN_AGE = 3_600
#: Maximum levels of nesting in an answer or a token; real ones have fewer than ten.
_MAX_JSON_DEPTH = 32
#: Maximum characters of a subject (OpenID Connect Core 1.0, section 2).
_MAX_SUBJECT_LENGTH = 255
#: Lifetime of a provider's cached keys, and the minimum interval between fetches for an unknown
#: key.
_KEYS_LIFETIME, _KEYS_RETRY = timedelta(minutes=5), timedelta(seconds=10)
#: Maximum keys tried per token.
_MAX_TRIED_KEYS = 16
#: Bits of an RSA modulus: RFC 7518, section 3.3, and OpenSSL's limit.
_MIN_RSA_BITS, _MAX_RSA_BITS = 2_048, 16_384
#: Characters of a reason.
_MAX_REASON_LENGTH = 500
_KEY_TYPES: Mapping[str, type[RSAKey | ECKey | OKPKey]] = {
    "RSA": RSAKey,
    "EC": ECKey,
    "OKP": OKPKey,
}
#: Errors of malformed JSON, tokens and keys.
_INVALID = (JoseError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
#: Signatures by a private key known only to the provider.
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


@dataclass(frozen=True, slots=True)
class _PublishedKeys:
    """The published JSON Web Keys of a provider."""

    uri: str
    fetched: datetime
    keys: Sequence[Any]


class _NoKeyFitsError(Exception):
    """No published key verifies a token."""


class OidcProvider:
    """An `IdentityProvider`.

    Args:
        issuer: its identifier, a URL, which every token must name.
        client_id: this server's name there.
        client_secret: this server's secret there; None for a public client.
        clock: the time to compare tokens with.
    """

    def __init__(
        self, issuer: str, client_id: str, client_secret: str | None, clock: Clock
    ) -> None:
        self._issuer, self._client_id, self._secret = issuer, client_id, client_secret
        self._clock = clock
        self._requests = asyncio.Semaphore(_MAX_REQUESTS)
        self._discovering = asyncio.Lock()
        #: A discovery document and its expiry.
        self._discovered: tuple[_Discovered, datetime] | None = None
        self._fetching_keys = asyncio.Lock()
        #: Written under `_fetching_keys`.
        self._published: _PublishedKeys | None = None

    async def begin(self, redirect_uri: str) -> tuple[str, BegunSignIn]:
        """Returns the URL to redirect a browser to, and the state to verify when it returns."""
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
        """Returns the verified claims about the user."""
        if answer.get("error"):
            raise _refused(f"the provider answered {answer['error'][:200]!r}")
        if answer.get("iss", self._issuer) != self._issuer:  # RFC 9207
            raise _refused("another provider answered")
        if not answer.get("code"):
            raise _refused("the provider sent no code")
        provider = await self._discover()
        token = await self._exchange(provider, begun, answer["code"])
        keys = await self._keys(provider.jwks_uri, _KEYS_LIFETIME)
        try:
            return await asyncio.to_thread(self._verified, token, keys, provider, begun.nonce)
        except _NoKeyFitsError as error:
            # The provider may have a new key.
            newer = await self._keys(provider.jwks_uri, _KEYS_RETRY)
            if newer is keys:
                raise _refused(str(error)) from error
        try:
            return await asyncio.to_thread(self._verified, token, newer, provider, begun.nonce)
        except _NoKeyFitsError as error:
            raise _refused(str(error)) from error

    async def _keys(self, uri: str, lifetime: timedelta) -> Sequence[Any]:
        """Returns the provider's keys, fetched within `lifetime`."""
        async with self._fetching_keys:
            now, published = self._clock.now(), self._published
            if published is None or published.uri != uri or published.fetched + lifetime < now:
                document = await self._fetch(urllib.request.Request(uri))  # noqa: S310 - checked
                keys = document.get("keys")
                if not isinstance(keys, list):
                    raise _refused(f"{uri} has no list of keys")
                published = self._published = _PublishedKeys(uri, now, keys)
            return published.keys

    async def _discover(self) -> _Discovered:
        """Returns the provider's addresses and algorithms, at most five minutes old."""
        async with self._discovering:
            now = self._clock.now()
            if self._discovered is None or self._discovered[1] < now:
                self._discovered = await self._fetch_discovered(), now + _DISCOVERED
            return self._discovered[0]

    async def _fetch_discovered(self) -> _Discovered:
        url = f"{self._issuer.rstrip('/')}/.well-known/openid-configuration"
        document = await self._fetch(urllib.request.Request(url))  # noqa: S310 - from the settings
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
            raise _refused(f"the provider supports none of {', '.join(_ALGORITHMS)}")
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
        self, token: str, keys: Sequence[Any], provider: _Discovered, nonce: str
    ) -> Mapping[str, Any]:
        """Returns the claims of a token.

        Raises:
            SignInRefused: they are invalid for this sign-in.
            _NoKeyFitsError: no key verifies the token's signature.
        """
        now = int(self._clock.now().timestamp())
        registry = JWTClaimsRegistry(
            now=now,
            leeway=_LEEWAY,
            iss={"essential": True, "value": self._issuer},
            aud={"essential": True, "value": self._client_id},
            sub={"essential": True},
            exp={"essential": True},
            iat={"essential": True},
            nonce={"essential": True},
        )
        claims = _signed_claims(token, keys, provider.algorithms)
        try:
            registry.validate(claims)
        except _INVALID as error:
            raise _refused(f"the id token is not valid: {error}") from error
        if _is_deeper(claims, _MAX_JSON_DEPTH):
            raise _refused("the id token is not valid: it is nested too deeply")
        if not _is_equal(claims["nonce"], nonce):
            raise _refused("the id token is not valid: its nonce is of another sign-in")
        if claims["iat"] < now - _MAX_TOKEN_AGE - _LEEWAY:
            raise _refused("the id token is not valid: it was issued more than an hour ago")
        subject = claims["sub"]
        if len(subject) > _MAX_SUBJECT_LENGTH or not subject.isprintable() or not subject.strip():
            raise _refused("the id token is not valid: its sub is not 1 to 255 visible characters")
        audience = claims["aud"]
        is_alone = isinstance(audience, str) or len(audience) == 1
        if claims.get("azp", self._client_id if is_alone else None) != self._client_id:
            raise _refused("the id token is for another client")
        return claims

    async def _fetch(self, request: urllib.request.Request) -> dict[str, Any]:
        """Returns the JSON object in the provider's answer."""

        def fetch() -> Any:
            with contextlib.ExitStack() as end:
                opener = urllib.request.build_opener(_NoRedirects, _Connections(end))
                answer = end.enter_context(opener.open(request, timeout=_SILENCE_SECONDS))
                body = bytes(answer.read(_MAX_ANSWER_BYTES + 1))
            document = json.loads(body) if len(body) <= _MAX_ANSWER_BYTES else None
            if _is_deeper(document, _MAX_JSON_DEPTH):
                raise ValueError("the JSON is nested too deeply")
            return document

        try:
            async with self._requests:
                document = await asyncio.to_thread(fetch)
        except (OSError, HTTPException, ValueError, RecursionError) as error:
            raise _refused(f"{request.full_url} failed: {error}") from error
        if not isinstance(document, dict):
            raise _refused(f"{request.full_url} did not answer a JSON object")
        return document


def _signed_claims(token: str, keys: Sequence[Any], algorithms: Sequence[str]) -> dict[str, Any]:
    """Returns the claims that one of the keys has signed.

    Raises:
        SignInRefused: the token is unsigned.
        _NoKeyFitsError: no key verifies its signature.
    """
    try:
        header = jws.extract_compact(token.encode()).headers()
        key_id, algorithm = header.get("kid"), header["alg"]
        if not isinstance(key_id, str | None) or not isinstance(algorithm, str):
            raise TypeError("kid and alg must be strings")
    except _INVALID as error:
        raise _refused(f"the id token is not valid: {error}") from error
    failure: Exception | None = None
    for key in _keys_for(keys, key_id, algorithm):
        try:
            return jwt.decode(token, key, algorithms=list(algorithms)).claims
        except _INVALID as error:
            failure = error
    raise _NoKeyFitsError(
        f"the id token is not valid: {failure or 'the provider publishes no such key'}"
        f" (kid {key_id!r}, alg {algorithm!r})"
    )


def _keys_for(published: Sequence[Any], key_id: str | None, algorithm: str) -> Iterator[Key]:
    """Yields the first few usable keys that may have signed a token.

    Ignores others, such as keys of an unknown type or curve (RFC 7517, section 5).
    """
    tried = 0
    for jwk in published:
        if (
            not isinstance(jwk, dict)
            or (key_id is not None and jwk.get("kid") != key_id)
            or jwk.get("use", "sig") != "sig"
            or jwk.get("alg", algorithm) != algorithm
        ):
            continue
        key = _usable_key(jwk)
        if key is not None:
            tried += 1
            yield key
        if tried == _MAX_TRIED_KEYS:
            return


def _usable_key(jwk: dict[str, Any]) -> Key | None:
    kind = jwk.get("kty")
    importer = _KEY_TYPES.get(kind) if isinstance(kind, str) else None
    if importer is None or (kind == "RSA" and not _has_good_modulus(jwk.get("n"))):
        return None
    try:
        return importer.import_key(jwk)
    except _INVALID:
        return None


def _has_good_modulus(modulus: object) -> bool:
    if not isinstance(modulus, str) or len(modulus) > _MAX_RSA_BITS:
        return False
    try:
        content = base64.urlsafe_b64decode(modulus + "==")
    except ValueError:
        return False
    return _MIN_RSA_BITS <= int.from_bytes(content).bit_length() <= _MAX_RSA_BITS


def _is_deeper(value: Any, depth: int) -> bool:
    """Returns whether JSON has more levels than `depth`, without recursion."""
    level = [value]
    for _ in range(depth):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return any(isinstance(value, dict | list) for value in level)


def _is_equal(value: object, expected: str) -> bool:
    return isinstance(value, str) and hmac.compare_digest(
        value.encode("utf-8", "surrogatepass"), expected.encode()
    )


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
    """Follows no redirects: only the provider's published addresses count."""

    def redirect_request(self, *_: Any) -> None:
        return None


class _Connections(urllib.request.HTTPSHandler, urllib.request.HTTPHandler):
    """Opens connections with a deadline until `end` is closed."""

    def __init__(self, end: contextlib.ExitStack) -> None:
        super().__init__()
        self._by_http, self._by_https = connections_until(end)

    def http_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._by_http, request)

    def https_open(self, request: urllib.request.Request) -> HTTPResponse:
        return self.do_open(self._by_https, request)


def _refused(reason: str) -> SignInRefused:
    # The provider's part may be long or invalid Unicode.
    text = reason[:_MAX_REASON_LENGTH].encode("utf-8", "backslashreplace").decode()
    return SignInRefused(f"Signing in failed: {text}.", is_known=False)
