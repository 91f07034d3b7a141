"""Signing keys in files and in the control store: permissions, reported and refused keys."""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa

from opentrail.adapters.keys.rsa import RsaSigner, folder_problems
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.core.errors import SigningKeyUnavailable, StorageFailed
from opentrail.ports.control import Put, Remove
from tests.factories import MOMENT
from tests.fakes import Documents, MemoryControl, SettableClock, asynchronous


def pem(private: rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


LIFETIME = timedelta(days=90)
DAY = timedelta(days=1)


def signer_in(folder: Path, clock: SettableClock | None = None) -> RsaSigner:
    return RsaSigner(folder, clock or SettableClock(), LIFETIME)


async def signed(signer: RsaSigner, content: bytes) -> bytes:
    return await signer.sign(content, (await signer.current()).fingerprint)


def files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@asynchronous
async def test_key_is_made_once_only_for_its_owner(tmp_path: Path) -> None:
    signer = signer_in(tmp_path)
    assert files(tmp_path) == []
    await asyncio.gather(*(signed(signer, b"content") for _ in range(5)))
    (file,) = files(tmp_path)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert file.name == "signing-2020-01-01T090000Z.pem"
    assert len(await signer.keys()) == 1


@asynchronous
async def test_key_is_listed_around_its_time_of_signing(
    tmp_path: Path,
) -> None:
    clock = SettableClock(MOMENT + timedelta(microseconds=999_999))
    (made,) = await signer_in(tmp_path, clock).keys()
    clock.advance((LIFETIME - DAY).total_seconds())
    (later,) = await signer_in(tmp_path, clock).keys()
    assert later == made
    assert (made.valid_from, made.valid_until) == (MOMENT - DAY, MOMENT + LIFETIME + DAY)


@pytest.mark.slow
@asynchronous
async def test_a_new_key_replaces_an_old_one(tmp_path: Path) -> None:
    clock = SettableClock()
    signer = signer_in(tmp_path, clock)
    old = await signer.current()
    before = await signed(signer, b"content")
    clock.advance(LIFETIME.total_seconds() + 5 * 86_400)
    new = await signer.current()
    assert new.fingerprint != old.fingerprint
    # The old key is listed until the new one exists, so that every signature has its key.
    assert [(k.fingerprint, k.valid_from, k.valid_until) for k in await signer.keys()] == [
        (old.fingerprint, MOMENT - DAY, clock.now() + DAY),
        (new.fingerprint, clock.now() - DAY, clock.now() + LIFETIME + DAY),
    ]
    assert await signer.sign(b"content", old.fingerprint) == before
    again = signer_in(tmp_path, clock)
    assert await again.keys() == await signer.keys()
    assert await again.current() == new
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o620])
@asynchronous
async def test_a_key_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    await signer_in(tmp_path).keys()
    (file,) = files(tmp_path)
    file.chmod(mode)
    with pytest.raises(StorageFailed, match=f"chmod 600 {file}"):
        await signed(signer_in(tmp_path), b"content")
    file.chmod(0o600)
    await signed(signer_in(tmp_path), b"content")


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
async def test_a_file_without_a_suitable_key_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "signing-2020-01-01T090000Z.pem"
    file.write_bytes(content)
    file.chmod(0o600)
    with pytest.raises(StorageFailed, match=file.name):
        await signed(signer_in(tmp_path), b"content")
    assert await signer_in(tmp_path).keys() == []


@pytest.mark.slow
@asynchronous
async def test_old_keys_stay_listed_and_the_newest_signs(tmp_path: Path) -> None:
    first = signer_in(tmp_path)
    (old,) = await first.keys()
    newer = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    file = tmp_path / "signing-2021-01-01T000000Z.pem"
    file.write_bytes(newer)
    file.chmod(0o600)
    signer = signer_in(tmp_path)
    keys = await signer.keys()
    assert [key.valid_from.year for key in keys] == [2019, 2020]
    assert keys[0].fingerprint == old.fingerprint
    assert await signed(signer, b"content") != await signed(first, b"content")


@asynchronous
async def test_older_key_signs_earlier_digests(tmp_path: Path) -> None:
    clock = SettableClock()
    signer = signer_in(tmp_path, clock)
    old = await signer.current()
    clock.advance(LIFETIME.total_seconds() + 1)
    made = clock.now()
    new = await signer.current()
    for moment, expected in (
        (MOMENT - DAY, old),
        (MOMENT + LIFETIME, old),
        (made - timedelta(seconds=1), old),
        (made, new),
        (made + DAY, new),
    ):
        assert (await signer.current(moment)).fingerprint == expected.fingerprint


# Changed files


def remove(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def replace(file: Path) -> None:
    file.write_bytes(pem(rsa.generate_private_key(public_exponent=65537, key_size=2048)))


def open_to_others(file: Path) -> None:
    file.chmod(0o644)


CHANGES = [remove, truncate, empty, replace, open_to_others]


def remembering(folder: Path, control: MemoryControl, clock: SettableClock) -> RsaSigner:
    return RsaSigner(folder, clock, LIFETIME, control)


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
@asynchronous
async def test_a_bad_key_file_is_named_but_listed(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    control, clock = MemoryControl(), SettableClock()
    running = remembering(tmp_path, control, clock)
    made = await running.current()
    assert await running.check() == []
    (file,) = files(tmp_path)
    saved = file.read_bytes()
    change(file)
    for signer in (running, remembering(tmp_path, control, clock)):
        (problem,) = await signer.check()
        assert signer.problems == [problem]
        assert file.name in problem
        assert str(tmp_path) not in problem
        assert made.fingerprint in [key.fingerprint for key in await signer.keys()]
    # The process that has the key keeps using it.
    assert (await running.current()).fingerprint == made.fingerprint
    assert await folder_problems(tmp_path, control) == [problem]
    file.unlink(missing_ok=True)
    file.write_bytes(saved)
    file.chmod(0o600)
    again = remembering(tmp_path, control, clock)
    assert await again.check() == []
    assert made.fingerprint in [key.fingerprint for key in await again.keys()]


@pytest.mark.parametrize("change", [truncate, empty, replace, open_to_others])
@asynchronous
async def test_no_other_key_signs_for_a_damaged_one(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    control, clock = MemoryControl(), SettableClock()
    await remembering(tmp_path, control, clock).current()
    (file,) = files(tmp_path)
    change(file)
    with pytest.raises(SigningKeyUnavailable, match=file.name):
        await remembering(tmp_path, control, clock).current()
    assert files(tmp_path) == [file]


@pytest.mark.slow
@asynchronous
async def test_a_new_key_signs_for_a_missing_one(
    tmp_path: Path,
) -> None:
    control, clock = MemoryControl(), SettableClock()
    old = await remembering(tmp_path, control, clock).current()
    (file,) = files(tmp_path)
    file.unlink()
    signer = remembering(tmp_path, control, clock)
    new = await signer.current()
    assert new.fingerprint != old.fingerprint
    assert [key.fingerprint for key in await signer.keys()] == [old.fingerprint, new.fingerprint]
    assert len(await signer.check()) == 1
    (tmp_path / f"{file.name}.lost").touch()
    assert await signer.check() == []
    assert len(await signer.keys()) == 2


@pytest.mark.slow
@asynchronous
async def test_keys_of_an_earlier_version_are_remembered_unchanged(tmp_path: Path) -> None:
    made = await signer_in(tmp_path).current()
    control = MemoryControl()
    assert await remembering(tmp_path, control, SettableClock()).check() == []
    for file in files(tmp_path):
        file.unlink()
    again = remembering(tmp_path, control, SettableClock())
    assert len(await again.check()) == 1
    assert made.fingerprint in [key.fingerprint for key in await again.keys()]


# Keys that servers share in a control store

SEALER = AesGcmSealer(b"m" * 32)


def sharing(folder: Path, control: MemoryControl, clock: SettableClock | None = None) -> RsaSigner:
    """Returns the signer of a server with a shared control store and a separate directory."""
    folder.mkdir(exist_ok=True)
    return RsaSigner(folder, clock or SettableClock(), LIFETIME, control, SEALER)


@asynchronous
async def test_no_private_key_is_stored_in_plain_form(tmp_path: Path) -> None:
    control = MemoryControl()
    await sharing(tmp_path, control).current()
    assert files(tmp_path) == []
    assert len(control.disk) == 3
    assert not any("PRIVATE" in text for _, text in control.disk.values())


@pytest.mark.slow
@asynchronous
async def test_servers_that_start_concurrently_have_the_same_key(tmp_path: Path) -> None:
    disk: Documents = {}
    signers = [
        sharing(
            tmp_path / str(n), MemoryControl(disk), SettableClock(MOMENT + timedelta(seconds=n))
        )
        for n in range(3)
    ]
    signatures = await asyncio.gather(*(signed(signer, b"content") for signer in signers))
    assert len(set(signatures)) == 1
    for signer in signers:
        assert len(await signer.keys()) == 1
        assert await signer.keys() == await signers[0].keys()
        assert await signer.check() == []


@pytest.mark.slow
@asynchronous
async def test_servers_replacing_a_key_concurrently_have_the_same(
    tmp_path: Path,
) -> None:
    disk: Documents = {}
    clocks = [SettableClock(), SettableClock()]
    one, two = (sharing(tmp_path / str(n), MemoryControl(disk), c) for n, c in enumerate(clocks))
    old = await one.current()
    assert await two.current() == old
    for seconds, clock in enumerate(clocks):
        clock.advance(LIFETIME.total_seconds() + seconds)
    new, same = await asyncio.gather(one.current(), two.current())
    assert new == same
    assert new.fingerprint != old.fingerprint
    for signer in (one, two):
        assert [key.fingerprint for key in await signer.keys()] == [
            old.fingerprint,
            new.fingerprint,
        ]
    assert await one.keys() == await two.keys()


@pytest.mark.slow
@asynchronous
async def test_another_servers_key_is_listed_after_a_check(
    tmp_path: Path,
) -> None:
    disk: Documents = {}
    early, late = SettableClock(), SettableClock()
    one = sharing(tmp_path / "one", MemoryControl(disk), early)
    two = sharing(tmp_path / "two", MemoryControl(disk), late)
    assert await two.keys() == await one.keys()
    early.advance(LIFETIME.total_seconds())
    new = await one.current()
    signature = await one.sign(b"content", new.fingerprint)
    assert await two.check() == []
    assert await two.keys() == await one.keys()
    assert await two.sign(b"content", new.fingerprint) == signature


@asynchronous
async def test_keys_missing_from_the_store_stay_listed(
    tmp_path: Path,
) -> None:
    disk: Documents = {}
    one, two = (sharing(tmp_path / name, MemoryControl(disk)) for name in ("one", "two"))
    made = await one.current()
    assert await two.keys() == await one.keys()
    disk.clear()
    for signer in (one, two):
        (problem,) = await signer.check()
        assert "is missing: restore the control store" in problem
        assert [key.fingerprint for key in await signer.keys()] == [made.fingerprint]
        assert await signer.sign(b"content", made.fingerprint)


async def sealed_key(control: MemoryControl) -> str:
    (row,) = await control.scan("sealed-signing-key")
    return row.key


async def remove_document(control: MemoryControl, name: str) -> None:
    await control.apply([Remove("sealed-signing-key", name)])


async def change_document(control: MemoryControl, name: str) -> None:
    (row,) = await control.scan("sealed-signing-key")
    sealed = row.document["sealed"]
    changed = sealed[:-8] + ("A" if sealed[-8] != "A" else "B") + sealed[-7:]
    await control.apply([Put("sealed-signing-key", name, {"sealed": changed})])


async def replace_document(control: MemoryControl, name: str) -> None:
    other = pem(rsa.generate_private_key(public_exponent=65537, key_size=2048))
    sealed = SEALER.seal(other, f"signing key {name}")
    await control.apply([Put("sealed-signing-key", name, {"sealed": sealed})])


DOCUMENT_CHANGES = [remove_document, change_document, replace_document]


@pytest.mark.slow
@pytest.mark.parametrize("change", DOCUMENT_CHANGES)
@asynchronous
async def test_a_bad_sealed_key_is_named_but_listed(
    tmp_path: Path, change: Callable[[MemoryControl, str], Awaitable[None]]
) -> None:
    disk: Documents = {}
    running = sharing(tmp_path / "one", MemoryControl(disk))
    made = await running.current()
    name = await sealed_key(MemoryControl(disk))
    saved = disk["sealed-signing-key", name]
    await change(MemoryControl(disk), name)
    for signer in (running, sharing(tmp_path / "two", MemoryControl(disk))):
        (problem,) = await signer.check()
        assert name in problem
        assert "file" not in problem
        assert made.fingerprint in [key.fingerprint for key in await signer.keys()]
    assert await running.sign(b"content", made.fingerprint)
    disk["sealed-signing-key", name] = saved
    assert await running.check() == []
    assert await sharing(tmp_path / "three", MemoryControl(disk)).check() == []


@pytest.mark.parametrize("change", [change_document, replace_document])
@asynchronous
async def test_no_other_key_replaces_a_damaged_sealed_one(
    tmp_path: Path, change: Callable[[MemoryControl, str], Awaitable[None]]
) -> None:
    control = MemoryControl()
    await sharing(tmp_path, control).current()
    name = await sealed_key(control)
    await change(control, name)
    with pytest.raises(SigningKeyUnavailable, match=name):
        await sharing(tmp_path, control).current()
    assert await sealed_key(control) == name


@pytest.mark.slow
@asynchronous
async def test_loss_of_a_sealed_key_can_be_acknowledged(tmp_path: Path) -> None:
    control = MemoryControl()
    old = await sharing(tmp_path, control).current()
    name = await sealed_key(control)
    await remove_document(control, name)
    signer = sharing(tmp_path, control)
    assert (await signer.current()).fingerprint != old.fingerprint
    assert len(await signer.check()) == 1
    (tmp_path / f"{name}.lost").touch()
    assert await signer.check() == []
    assert old.fingerprint in [key.fingerprint for key in await signer.keys()]


@pytest.mark.slow
@asynchronous
async def test_keys_in_files_are_copied_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    disk: Documents = {}
    alone = remembering(tmp_path, MemoryControl(disk), SettableClock())
    signature, keys = await signed(alone, b"content"), await alone.keys()
    for _ in range(2):
        first = sharing(tmp_path, MemoryControl(disk))
        assert await signed(first, b"content") == signature
        assert await first.keys() == keys
        assert await first.check() == []
    copied = [r for r in caplog.records if "copied from its file" in r.message]
    assert len(copied) == 1
    (file,) = files(tmp_path)
    file.unlink()
    for folder in (tmp_path, tmp_path / "two"):
        again = sharing(folder, MemoryControl(disk))
        assert await again.check() == []
        assert await signed(again, b"content") == signature
        assert await again.keys() == keys


@pytest.mark.parametrize("change", [truncate, replace, open_to_others])
@asynchronous
async def test_a_changed_key_file_is_not_copied(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    control = MemoryControl()
    await remembering(tmp_path, control, SettableClock()).current()
    (file,) = files(tmp_path)
    change(file)
    signer = sharing(tmp_path, control)
    (problem,) = await signer.check()
    assert file.name in problem
    assert await control.scan("sealed-signing-key") == []
    with pytest.raises(SigningKeyUnavailable, match=file.name):
        await signer.current()
