"""A provider of OpenID Connect whose right and wrong answers a test chooses."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from joserfc import jwt
from joserfc.jwk import Key, RSAKey

from tests.serving import serving

CLIENT, SECRET, CODE = "opentrail-test", "s3cret: very", "the-code"


@dataclass
class StubIssuer:
    """The provider; tests may change its members between requests."""

    url: str
    key: Key = field(default_factory=lambda: RSAKey.generate_key(2048, {"kid": "1"}))
    #: Signing key and header of tokens; by default the published key.
    signer: Key | None = None
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "1"})
    algorithms: list[str] = field(default_factory=lambda: ["RS256", "none", "HS256"])
    #: Changes of the discovery document and of a token's claims; None removes a member.
    published: dict[str, Any] = field(default_factory=dict)
    claims: dict[str, Any] = field(default_factory=dict)
    #: Makes the token of its claims, instead of signing them.
    make_token: Callable[[dict[str, Any]], str] | None = None
    #: The published keys, instead of the public part of `key`.
    keys: list[Any] | None = None
    #: Bodies of answers by path, instead of the right ones.
    bodies: dict[str, bytes] = field(default_factory=dict)
    #: The query of the last request to sign in, and the forms and headers of exchanges.
    asked: dict[str, str] = field(default_factory=dict)
    forms: list[dict[str, str]] = field(default_factory=list)
    authorizations: list[str | None] = field(default_factory=list)
    discoveries: int = 0
    key_fetches: int = 0
    #: Exchanges that wait for `go_on`, by number of their threads.
    waiting: set[int] = field(default_factory=set)
    go_on: threading.Event = field(default_factory=threading.Event)

    def authorize(self, url: str) -> dict[str, str]:
        """Acts as a user who signs in; returns the query of the redirect."""
        self.asked = dict(parse_qsl(urlsplit(url).query))
        return {"code": CODE, "state": self.asked["state"]}

    def document(self) -> dict[str, Any]:
        made = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "id_token_signing_alg_values_supported": self.algorithms,
        }
        return _changed(made, self.published)

    def exchange(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        """Answers a code, if PKCE's verifier fits the challenge."""
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_right = form["code"] == CODE and challenge == self.asked["code_challenge"]
        if not is_right or form["redirect_uri"] != self.asked["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": self.asked["client_id"],
            "sub": "user-1",
            "iat": now,
            "exp": now + 300,
            "nonce": self.asked["nonce"],
        }
        claims = _changed(claims, self.claims)
        if self.make_token is not None:
            return 200, {"id_token": self.make_token(claims)}
        signer = self.signer or self.key
        token = jwt.encode(self.header, claims, signer, algorithms=[self.header["alg"]])
        return 200, {"id_token": token}


def _changed(made: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**made, **changes}.items() if value is not None}


@contextmanager
def stub_issuer() -> Iterator[StubIssuer]:
    """Runs the provider during a test."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/.well-known/openid-configuration":
                stub.discoveries += 1
                self._answer(200, stub.document())
            elif self.path == "/keys":
                stub.key_fetches += 1
                published = [stub.key.as_dict(private=False)] if stub.keys is None else stub.keys
                self._answer(200, {"keys": published})
            else:
                self.send_response(302)
                self.send_header("Location", f"{stub.url}/keys")
                self.end_headers()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            form = {name: values[0] for name, values in parse_qs(body).items()}
            stub.waiting.add(threading.get_ident())
            stub.go_on.wait(60)
            stub.forms.append(form)
            stub.authorizations.append(self.headers.get("authorization"))
            self._answer(*stub.exchange(form))

        def _answer(self, status: int, document: Any) -> None:
            body = stub.bodies.get(self.path) or json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    stub = StubIssuer(f"http://127.0.0.1:{server.server_port}")
    stub.go_on.set()
    with serving(server):
        yield stub
