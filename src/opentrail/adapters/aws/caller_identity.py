"""Asks an upstream as whom it sees the owner of an access key."""

from __future__ import annotations

import http.client
import re
import ssl
import urllib.error
import urllib.request
from dataclasses import dataclass

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from opentrail.core.event import is_account
from opentrail.wire.pinning import opener_with
from opentrail.wire.resign import UpstreamCredentials

_BODY = b"Action=GetCallerIdentity&Version=2011-06-15"
_FORM = "application/x-www-form-urlencoded; charset=utf-8"
_MAX_ANSWER_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class CallerIdentity:
    """The answer of STS's GetCallerIdentity."""

    account: str
    arn: str
    user_id: str


def caller_identity(
    url: str, key: UpstreamCredentials, context: ssl.SSLContext | None, seconds: float
) -> CallerIdentity | None:
    """Returns as whom the upstream at `url` sees the owner of a key; None if it does not say.

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
