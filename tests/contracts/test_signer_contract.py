"""The guarantees of every signer (ports/signer.py), checked with the independent package `rsa`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
import rsa

from opentrail.adapters.keys.rsa import RsaSigner
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.ports.signer import Signer
from tests.factories import MOMENT
from tests.fakes import Documents, MemoryControl, MemorySigner, SettableClock, asynchronous

Open = Callable[[], Signer]
LIFETIME = timedelta(days=90)


async def signed(signer: Signer, content: bytes) -> bytes:
    return await signer.sign(content, (await signer.current()).fingerprint)


@pytest.fixture(params=["memory", "files", "control store"])
def open_signer(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    if request.param == "memory":
        return MemorySigner
    if request.param == "control store":
        disk: Documents = {}
        sealer = AesGcmSealer(b"m" * 32)
        return lambda: RsaSigner(tmp_path, SettableClock(), LIFETIME, MemoryControl(disk), sealer)
    return lambda: RsaSigner(tmp_path, SettableClock(), LIFETIME)


@pytest.mark.parametrize("content", [b"", b"text to sign\nnull", bytes(range(256)) * 100])
@asynchronous
async def test_a_signature_verifies_with_the_last_listed_key(
    open_signer: Open, content: bytes
) -> None:
    signer = open_signer()
    signature = await signed(signer, content)
    key = (await signer.keys())[-1]
    public = rsa.PublicKey.load_pkcs1(key.public_der, format="DER")
    assert rsa.verify(content, signature, public) == "SHA-256"
    assert public.n.bit_length() >= 2048
    with pytest.raises(rsa.VerificationError):
        rsa.verify(content + b"!", signature, public)


@asynchronous
async def test_equal_content_has_an_equal_signature(open_signer: Open) -> None:
    signer = open_signer()
    assert await signed(signer, b"content") == await signed(signer, b"content")
    assert await signed(signer, b"content") != await signed(signer, b"other")


@asynchronous
async def test_fingerprint_is_the_md5_of_the_der_form(open_signer: Open) -> None:
    for key in await open_signer().keys():
        expected = hashlib.md5(key.public_der, usedforsecurity=False).hexdigest()
        assert key.fingerprint == expected


@pytest.mark.slow
@asynchronous
async def test_keys_are_listed_oldest_first_with_their_validity(
    open_signer: Open,
) -> None:
    keys = await open_signer().keys()
    assert keys
    assert keys == sorted(keys, key=lambda key: key.valid_from)
    assert keys[-1].valid_from <= MOMENT < keys[-1].valid_until


@asynchronous
async def test_the_key_outlives_the_signer(open_signer: Open) -> None:
    signer = open_signer()
    signature, keys = await signed(signer, b"content"), await signer.keys()
    later = open_signer()
    assert await later.keys() == keys
    assert await signed(later, b"content") == signature
