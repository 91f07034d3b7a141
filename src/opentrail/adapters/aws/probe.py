"""The recognized kinds of upstream, and the identity that one sees behind an access key."""

from __future__ import annotations

import http.client
import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from opentrail.adapters.aws.emulator_folder import EmulatorFolder, folder_of
from opentrail.core.event import is_account
from opentrail.wire.pinning import opener_with
from opentrail.wire.resign import UpstreamCredentials
from opentrail.wire.routing import is_aws_host
from opentrail.wire.sigv4 import Credential


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """An upstream's answer to a GET without credentials, or the reason for a missing answer."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    status: int = 0
    failure: str | None = None

    @property
    def document(self) -> Mapping[str, object]:
        """The JSON object of a successful answer; empty without one."""
        try:
            document = json.loads(self.body) if 200 <= self.status < 300 else None
        except ValueError:
            return {}
        return document if isinstance(document, dict) else {}


Get = Callable[[str], ProbeAnswer]
_Mark = Callable[[Get], bool]


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of upstream.

    Attributes:
        name: its name, as its makers spell it.
        signatures: its treatment of signatures, for the banner of `opentrail serve`.
        marks: each recognizes it by its answers.
        takes_for_s3: whether it carries out a REST call of another service, given its signer, as
            one of S3.
        has_function_hosts: whether hosts of functions and APIs lead to these.
        names_any_key: whether it checks no signatures and answers GetCallerIdentity for any access
            key id, so that opentrail can ask it who is behind one.
    """

    name: str
    signatures: str
    marks: tuple[_Mark, ...] = ()
    takes_for_s3: Callable[[Credential | None], bool] = lambda _: False
    names_any_key: bool = False
    has_function_hosts: bool = False


def _server(begin: str) -> _Mark:
    """Recognizes the header `Server` of the answer to `/`."""
    return lambda get: get("/").headers.get("server", "").startswith(begin)


def _health(path: str, **members: str) -> _Mark:
    """Recognizes a health route with JSON that has these members."""

    def recognizes(get: Get) -> bool:
        document = get(path).document
        return bool(document) and all(document.get(key) == members[key] for key in members)

    return recognizes


def _is_moto(get: Get) -> bool:
    """Recognizes moto by its settings, or by the page that earlier versions have instead.

    Its other routes list what it holds, and fail on some of that.
    """
    return bool(get("/moto-api/config").document) or b"<title>Moto" in get("/moto-api/").body


def _is_ceph(get: Get) -> bool:
    return get("/").headers.get("x-amz-request-id", "").startswith("tx0")


def _is_garage(get: Get) -> bool:
    return b"Garage does not support anonymous access" in get("/").body


def _is_localstack(get: Get) -> bool:
    return "services" in get("/_localstack/health").document


def _any_signer(_: Credential | None) -> bool:
    """A store of S3 does not ask for which service a call is signed."""
    return True


#: What moto takes for S3 in `SERVICE.REGION`.
_MOTO_S3 = re.compile(r"s3(?!tables|vectors|-control)")


def _no_signer_in_header(credential: Credential | None) -> bool:
    """Only a header's scope names a service for moto and MiniStack; the rest is S3."""
    if credential is None or (credential.version, credential.method) != ("SigV4", "AuthHeader"):
        return True
    return _MOTO_S3.search(credential.service or "") is not None


_KEPT = "it verifies signatures; the Host header of clients is passed on, so theirs stay valid"
_NONE = "it verifies no signatures"
_NONE_YET = f"{_NONE}, unless it is set up to"
AWS = Kind(
    "AWS",
    "it accepts only signatures made for its own host names: set resign = true and "
    "credentials for it in the file given by --config",
    (_server("AmazonS3"),),
)
#: Recognized by its folder on this machine (`emulator_folder.py`).
AWS_EMULATOR = Kind(
    "AWS Emulator",
    "it accepts only the keys of its present run; opentrail re-signs calls made with them",
)
#: Probe order. Several emulators also answer LocalStack's health route, hence last.
KINDS = (
    AWS,
    Kind("SeaweedFS", _KEPT, (_server("SeaweedFS"),), _any_signer),
    Kind("Ceph", _KEPT, (_server("Ceph"), _is_ceph), _any_signer),
    Kind("MinIO", _KEPT, (_server("MinIO"),), _any_signer),
    Kind("Garage", _KEPT, (_is_garage,), _any_signer),
    Kind(
        "moto",
        _NONE,
        (_is_moto,),
        takes_for_s3=_no_signer_in_header,
        names_any_key=True,
    ),
    Kind(
        "MiniStack",
        _NONE,
        (_health("/_ministack/health"),),
        takes_for_s3=_no_signer_in_header,
        names_any_key=True,
        has_function_hosts=True,
    ),
    Kind(
        "Floci",
        _NONE_YET,
        (_health("/_localstack/health", original_edition="floci-always-free"),),
        names_any_key=True,
    ),
    Kind("fakecloud", _NONE_YET, (_health("/_fakecloud/health"),), names_any_key=True),
    Kind("cloudemu", _NONE_YET, (_health("/_cloudemu/health"),), names_any_key=True),
    Kind("LocalEmu", _NONE_YET, (_health("/_localemu/health"),), names_any_key=True),
    Kind("LocalStack", _NONE_YET, (_is_localstack,), names_any_key=True),
)

KINDS_BY_NAME = {kind.name: kind for kind in (*KINDS, AWS_EMULATOR)}


def is_aws(url: str) -> bool:
    """Returns whether a URL is AWS's own; AWS is not probed."""
    return is_aws_host(urlsplit(url).hostname or "")


def recognize(get: Get) -> Kind | None:
    """Returns the kind of upstream at a URL; None if unknown."""
    answers: dict[str, ProbeAnswer] = {}

    def once(path: str) -> ProbeAnswer:
        if path not in answers:
            answers[path] = get(path)
        return answers[path]

    return next((kind for kind in KINDS for mark in kind.marks if mark(once)), None)


_PROBE_SECONDS = 5.0
_MAX_ANSWER_BYTES = 65_536


class Probe:
    """Probes one upstream.

    Args:
        url: its address.
        ca: PEM file with the authorities of its certificate; None for the authorities of this
            machine or of the AWS Emulator's folder.
    """

    def __init__(self, url: str, ca: Path | None = None) -> None:
        self.url = url
        self.folder: EmulatorFolder | None = None if ca else folder_of(url)
        self._ca = ca

    def context(self) -> ssl.SSLContext | None:
        """Returns the context of TLS connections to it; None without TLS."""
        if not self.url.startswith("https:"):
            return None
        return self.folder.context() if self.folder else ssl.create_default_context(cafile=self._ca)

    def get(self, path: str) -> ProbeAnswer:
        """Returns the answer to a GET without credentials."""
        try:
            opener = opener_with(self.context())
            try:
                response = opener.open(self.url.rstrip("/") + path, timeout=_PROBE_SECONDS)
            except urllib.error.HTTPError as error:
                response = error
            with response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                return ProbeAnswer(headers, response.read(_MAX_ANSWER_BYTES), response.status)
        except urllib.error.URLError as error:
            return ProbeAnswer(failure=str(getattr(error.reason, "strerror", None) or error.reason))
        except (OSError, http.client.HTTPException, ValueError) as error:
            return ProbeAnswer(failure=str(error) or type(error).__name__)

    def kind(self) -> tuple[Kind | None, ProbeAnswer]:
        """Returns the kind of the upstream, None if unknown, and its answer to `/`."""
        if is_aws(self.url):
            return AWS, ProbeAnswer()
        first = self.get("/")
        if first.failure is not None:
            return None, first
        if self.folder is not None and self.folder.is_there:
            return AWS_EMULATOR, first
        return recognize(partial(self._get_after, first)), first

    def _get_after(self, first: ProbeAnswer, path: str) -> ProbeAnswer:
        return first if path == "/" else self.get(path)


_BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
_FORM = "application/x-www-form-urlencoded; charset=utf-8"


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """The answer of STS's GetCallerIdentity."""

    account: str
    arn: str
    user_id: str


def caller_identity(
    url: str, key: UpstreamCredentials, context: ssl.SSLContext | None, seconds: float
) -> CallerIdentity | None:
    """Returns the identity that the upstream at `url` sees behind a key; None if it gives none.

    Raises:
        OSError: it cannot be reached, or does not answer in time.
    """
    request = AWSRequest("POST", f"{url.rstrip('/')}/", {"Content-Type": _FORM}, _BODY)
    credentials = Credentials(key.access_key_id, key.secret_access_key, key.session_token)
    SigV4Auth(credentials, "sts", key.region or "us-east-1").add_auth(request)
    opener = opener_with(context)
    sent = urllib.request.Request(request.url, _BODY, dict(request.headers), method="POST")  # noqa: S310 - an upstream's URL is http or https
    try:
        with opener.open(sent, timeout=seconds) as answer:
            return _read(answer.read(_MAX_ANSWER_BYTES))
    except urllib.error.HTTPError as error:
        error.close()
        return None
    except (http.client.HTTPException, ValueError) as error:
        raise ConnectionError(str(error)) from error


def _read(body: bytes) -> CallerIdentity | None:
    text = body.decode("utf-8", "replace")
    account, arn, user_id = (_element(name, text) for name in ("Account", "Arn", "UserId"))
    if not is_account(account) or not arn.startswith("arn:"):
        return None
    return CallerIdentity(account, arn, user_id)


def _element(name: str, text: str) -> str:
    found = re.search(rf"<{name}>([^<>]{{1,2048}})</{name}>", text)
    return found[1] if found else ""
