"""Verification of signatures, in one process and thread."""

from __future__ import annotations

import hashlib
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from opentrail.wire.signature_errors import JSON_WORDING, SignatureRefused
from opentrail.wire.verification import Place, SignedRequest, SigningSecret, verify

ROUNDS, EACH = 40, 250
_KEY, _SECRET, _TOKEN = (
    "ASIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "t" * 400,
)
_HEADERS = {
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Target": "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101.GetTrailStatus",
}
_BODY = b'{"Name": "arn:aws:cloudtrail:eu-west-1:123456789012:trail/main"}'
_SIGNER = SigV4Auth(Credentials(_KEY, _SECRET, _TOKEN), "cloudtrail", "eu-west-1")


def signatures() -> dict[str, float]:
    """Times a check of `GetTrailStatus` turn by turn with botocore's signing of it."""
    headers = [(b"Host", b"cloudtrail.eu-west-1.amazonaws.com")]
    headers += [(name.encode(), value.encode()) for name, value in _sign().headers.items()]
    request = SignedRequest("POST", b"/", headers, hashlib.sha256(_BODY).hexdigest())
    secret = SigningSecret(_SECRET, hashlib.sha256(_TOKEN.encode()).digest())
    place = Place(JSON_WORDING, frozenset({"cloudtrail"}), "eu-west-1", is_own=True)
    now = datetime.now(UTC)
    wrong = SigningSecret("another", secret.session_token_sha256)

    def refuse(secrets: dict[str, SigningSecret]) -> None:
        try:
            verify(request, secrets.get, now, place)
        except SignatureRefused:
            return
        raise RuntimeError("a forged signature was accepted")

    medians = _medians(
        {
            "verify p50 us": lambda: verify(request, {_KEY: secret}.get, now, place),
            "wrong secret p50 us": lambda: refuse({_KEY: wrong}),
            "unknown key p50 us": lambda: refuse({}),
            "botocore signs p50 us": _sign,
        }
    )
    ratios = {
        "unknown key / wrong secret, ratio": medians["unknown key p50 us"]
        / medians["wrong secret p50 us"],
        "verify / botocore signs, ratio": medians["verify p50 us"]
        / medians["botocore signs p50 us"],
    }
    return {**medians, **ratios}


def _sign() -> AWSRequest:
    url = "https://cloudtrail.eu-west-1.amazonaws.com/"
    request = AWSRequest("POST", url, headers=dict(_HEADERS), data=_BODY)
    _SIGNER.add_auth(request)
    return request


def _medians(works: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Returns the median microseconds of each, timed by turns."""
    found: dict[str, list[int]] = {name: [] for name in works}
    clock = time.perf_counter_ns
    for _ in range(ROUNDS):
        for name, work in works.items():
            for _ in range(EACH):
                started = clock()
                work()
                found[name].append(clock() - started)
    return {name: statistics.median(times) / 1000 for name, times in found.items()}


BENCHMARKS = {"Access: check of a signature": signatures}
