"""The guarantees of every verifier (ports/verifier.py), on signatures by `rsa`."""

from __future__ import annotations

import base64
import json
from functools import cache

import pytest
import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.ports.verifier import Verifier
from tests.collection import WHOLE, needs_the_whole

PUBLISHED_KEYS = WHOLE / "digests" / "aws-published-keys.json"


@cache
def pair() -> tuple[rsa.PublicKey, rsa.PrivateKey]:
    made = generate_private_key(public_exponent=65537, key_size=2048).private_numbers()
    n, e = made.public_numbers.n, made.public_numbers.e
    return rsa.PublicKey(n, e), rsa.PrivateKey(n, e, made.d, made.p, made.q)


@pytest.fixture
def verifier() -> Verifier:
    return RsaVerifier()


def der(public: rsa.PublicKey) -> bytes:
    return bytes(public.save_pkcs1("DER"))


@pytest.mark.parametrize("content", [b"", b"text to sign\nnull", bytes(range(256)) * 100])
def test_the_keys_own_signature_is_accepted(verifier: Verifier, content: bytes) -> None:
    public, private = pair()
    signature = rsa.sign(content, private, "SHA-256")
    assert verifier.verifies(der(public), signature, content)
    assert verifier.verifies(der(public), signature, content)


def test_any_other_signature_is_refused(verifier: Verifier) -> None:
    public, private = pair()
    signature = rsa.sign(b"content", private, "SHA-256")
    flipped = bytes([signature[0] ^ 1]) + signature[1:]
    for wrong in (b"", flipped, signature[1:], signature + b"\0", bytes(256)):
        assert not verifier.verifies(der(public), wrong, b"content")
    assert not verifier.verifies(der(public), signature, b"other")
    assert not verifier.verifies(der(public), rsa.sign(b"content", private, "SHA-512"), b"content")


@pytest.mark.parametrize("key", [b"", b"no key", bytes(300)])
def test_an_invalid_key_is_an_error(verifier: Verifier, key: bytes) -> None:
    with pytest.raises(ValueError, match="not a public key"):
        verifier.verifies(key, b"signature", b"content")


@pytest.mark.slow
def test_a_short_key_is_an_error(verifier: Verifier) -> None:
    public, private = rsa.newkeys(1024)
    with pytest.raises(ValueError, match="at least 2048 bits"):
        verifier.verifies(der(public), rsa.sign(b"content", private, "SHA-256"), b"content")


@pytest.mark.conformance
@needs_the_whole
def test_keys_that_aws_published_can_be_used(verifier: Verifier) -> None:
    keys = json.loads(PUBLISHED_KEYS.read_text())["PublicKeyList"]
    assert keys
    for key in keys:
        assert not verifier.verifies(base64.b64decode(key["Value"]), bytes(256), b"content")
