"""The signing key's file: who may read it, how it is named, what is refused."""

from __future__ import annotations

import asyncio
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from opentrail.adapters.rsa import RsaSigner
from opentrail.core.errors import StorageFailed
from tests.factories import MOMENT
from tests.fakes import SettableClock, asynchronous


def pem(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@asynchronous
async def test_the_key_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    signer = RsaSigner(tmp_path, SettableClock())
    assert files(tmp_path) == []
    await asyncio.gather(*(signer.sign(b"content") for _ in range(5)))
    (file,) = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.name == "signing-2020-01-01T090000Z.pem"
    assert len(await signer.keys()) == 1


@asynchronous
async def test_validity_begins_when_the_key_was_made_whatever_the_clock_says_later(
    tmp_path: Path,
) -> None:
    clock = SettableClock(MOMENT + timedelta(microseconds=999_999))
    (made,) = await RsaSigner(tmp_path, clock).keys()
    clock.advance(86_400 * 400)
    (later,) = await RsaSigner(tmp_path, clock).keys()
    assert later == made
    assert made.valid_from == MOMENT
    assert made.valid_until - made.valid_from >= timedelta(days=365)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
@asynchronous
async def test_a_key_file_open_to_others_is_refused_with_the_remedy(
    tmp_path: Path, mode: int
) -> None:
    await RsaSigner(tmp_path, SettableClock()).keys()
    (file,) = files(tmp_path)
    file.chmod(mode)
    with pytest.raises(StorageFailed, match=f"chmod 600 {file}"):
        await RsaSigner(tmp_path, SettableClock()).sign(b"content")
    file.chmod(0o600)
    await RsaSigner(tmp_path, SettableClock()).sign(b"content")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"this is no key\n",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(ed25519.Ed25519PrivateKey.generate()),
        pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)),  # noqa: S505 - refused
    ],
    ids=["empty", "text", "cut", "another kind", "too short"],
)
@asynchronous
async def test_a_file_that_holds_no_fit_key_is_refused_by_name(
    tmp_path: Path, content: bytes
) -> None:
    file = tmp_path / "signing-2020-01-01T090000Z.pem"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(StorageFailed, match=file.name):
        await RsaSigner(tmp_path, SettableClock()).keys()


@asynchronous
async def test_old_keys_stay_listed_and_the_newest_signs(tmp_path: Path) -> None:
    first = RsaSigner(tmp_path, SettableClock())
    (old,) = await first.keys()
    newer = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    file = tmp_path / "signing-2021-01-01T000000Z.pem"
    file.write_bytes(newer)
    file.chmod(0o600)
    signer = RsaSigner(tmp_path, SettableClock())
    keys = await signer.keys()
    assert [key.valid_from.year for key in keys] == [2020, 2021]
    assert keys[0] == old
    assert await signer.sign(b"content") != await first.sign(b"content")
