"""A stand-in for AWS Emulator, which no registry has: moto behind the interface in its user guide.

HTTPS on one port with a new certificate at each start; a new key at each start, which must sign
requests (SigV4, verified here by botocore, not by opentrail); both in a folder named by the port;
one account, state in memory. It is undocumented whether the real one compares the signed `Host`
with its own address: with `own_host` this one does.
"""

from __future__ import annotations

import secrets
import shutil
import ssl
import threading
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.certificates import issue, write

ACCOUNT = "000000000000"
_HOP = ("connection", "transfer-encoding", "content-length", "keep-alive", "host")


class StandInEmulator:
    """One emulator, which can be restarted on its port.

    Args:
        home: the parent of its `.aws/emulator/PORT`.
        port: its port.
        moto: host and port of a moto.
        own_host: whether it accepts only signatures over its own address.
    """

    def __init__(self, home: Path, port: int, moto: str, own_host: bool = False) -> None:
        self.folder = home / ".aws" / "emulator" / str(port)
        self.port = port
        self.moto = moto
        self.own_host = own_host
        self.key_id = self.secret = ""
        #: Number of requests refused for their key or signature.
        self.refused = 0
        self._server: _Server | None = None

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Makes a key and a certificate of this run, and listens."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.key_id = f"AKIA{secrets.token_hex(8).upper()}"
        self.secret = secrets.token_urlsafe(30)
        pem, key = self.folder / "ca.pem", self.folder.parent / f"{self.port}.key"
        write(issue("localhost", "127.0.0.1"), pem, key)
        (self.folder / "config").write_text(
            f"[default]\nregion = us-east-1\nendpoint_url = {self.url}\nca_bundle = {pem}\n"
        )
        (self.folder / "emulator_credentials").write_text(
            f"[default]\naws_access_key_id = {self.key_id}\naws_secret_access_key = {self.secret}\n"
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem, key)
        handler = type("Handler", (_Handler,), {"emulator": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self._server.socket = context.wrap_socket(
            self._server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Ends, and deletes its folder, as the guide says."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server.end_connections()
            self._server = None
            shutil.rmtree(self.folder)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(address, handler)
        self.open: set[ssl.SSLSocket] = set()

    def end_connections(self) -> None:
        for connection in list(self.open):
            connection.close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    emulator: StandInEmulator

    def setup(self) -> None:
        self.server.open.add(self.request)  # type: ignore[attr-defined]
        super().setup()

    def finish(self) -> None:
        self.server.open.discard(self.request)  # type: ignore[attr-defined]
        try:
            super().finish()
        except OSError:
            return

    def handle(self) -> None:
        try:
            super().handle()
        except OSError:
            return  # the run has ended

    def log_message(self, *_: object) -> None:
        return None

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        code = self._refusal(body)
        if code is not None:
            self.emulator.refused += 1
            self._answer(
                403, {}, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            )
            return
        moto = HTTPConnection(self.emulator.moto, timeout=60)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _HOP}
        moto.request(self.command, self.path, body, {**headers, "x-moto-account-id": ACCOUNT})
        answer = moto.getresponse()
        kept = {name: value for name, value in answer.getheaders() if name.lower() not in _HOP}
        self._answer(answer.status, kept, answer.read())
        moto.close()

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _serve  # noqa: N815 - http.server's names

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refusal(self, body: bytes) -> str | None:
        """Returns the error code of a request without a valid signature by this run's key."""
        claim = self.headers.get("Authorization", "")
        if not claim.startswith("AWS4-HMAC-SHA256 "):
            return "MissingAuthenticationToken"
        parts = dict(part.strip().partition("=")[::2] for part in claim[17:].split(","))
        key_id, _, region, service, _ = parts["Credential"].split("/")
        if key_id != self.emulator.key_id:
            return "InvalidClientTokenId"
        own = f"127.0.0.1:{self.emulator.port}"
        host = own if self.emulator.own_host else self.headers["Host"]
        target = urlsplit(self.path)
        request = AWSRequest(
            self.command,
            f"https://{host}{target.path}",
            data=body,
            params=parse_qsl(target.query, keep_blank_values=True),
        )
        for name in parts["SignedHeaders"].split(";"):
            request.headers[name] = host if name == "host" else self.headers.get(name, "")
        stamp = self.headers.get("X-Amz-Date", "")
        auth = (S3SigV4Auth if service == "s3" else SigV4Auth)(
            Credentials(key_id, self.emulator.secret), service, region
        )
        request.context["timestamp"] = stamp
        canonical = auth.canonical_request(request)
        expected = auth.signature(auth.string_to_sign(request, canonical), request)
        return None if expected == parts["Signature"] else "SignatureDoesNotMatch"
