"""The master key: made once, readable only by its owner, never replaced silently."""

from __future__ import annotations

import base64
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from opentrail.adapters.keys.sealing import AesGcmSealer, load_master_key
from opentrail.core.errors import StorageFailed, UsageError


def test_key_is_made_once_only_for_its_owner(tmp_path: Path) -> None:
    file = tmp_path / "keys" / "master.key"
    key = load_master_key(file, None, may_create=True)
    assert len(key) == 32
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert load_master_key(file, None, may_create=True) == key
    assert load_master_key(file, None, may_create=False) == key
    assert [each.name for each in file.parent.iterdir()] == ["master.key"]


def test_concurrent_creators_get_the_same_key(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    with ThreadPoolExecutor(8) as pool:
        keys = set(pool.map(lambda _: load_master_key(file, None, may_create=True), range(8)))
    assert len(keys) == 1


def test_missing_key_of_sealed_secrets_is_not_replaced(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    with pytest.raises(StorageFailed, match="is missing, and secrets are sealed by it: restore"):
        load_master_key(file, None, may_create=False)
    assert not file.exists()


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "master.key"
    load_master_key(file, None, may_create=True)
    file.chmod(0o640)
    with pytest.raises(StorageFailed, match="may be read by others"):
        load_master_key(file, None, may_create=False)


@pytest.mark.parametrize("text", ["", "short", base64.b64encode(b"x" * 31).decode(), "ä" * 44])
def test_invalid_keys_are_refused_and_hidden(tmp_path: Path, text: str) -> None:
    file = tmp_path / "master.key"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(StorageFailed, match="is not a master key"):
        load_master_key(file, None, may_create=False)
    if text:
        with pytest.raises(UsageError, match="OPENTRAIL_MASTER_KEY must be base64") as caught:
            load_master_key(file, text, may_create=False)
        assert text not in str(caught.value)


def test_a_given_key_precedes_the_file(tmp_path: Path) -> None:
    given = base64.b64encode(b"g" * 32).decode()
    assert load_master_key(tmp_path / "no.key", given, may_create=False) == b"g" * 32
    assert not (tmp_path / "no.key").exists()


def test_a_fingerprint_identifies_the_key(tmp_path: Path) -> None:
    one, other = AesGcmSealer(b"a" * 32), AesGcmSealer(b"b" * 32)
    assert one.fingerprint == AesGcmSealer(b"a" * 32).fingerprint != other.fingerprint
    assert len(one.fingerprint) == 16


@pytest.mark.parametrize("text", ["", "v2.x.y", "plain"])
def test_a_secret_in_another_form_is_named(text: str) -> None:
    with pytest.raises(StorageFailed, match="the secret of key A is not sealed in form v1"):
        AesGcmSealer(b"a" * 32).unseal(text, "key A")
