"""The key directory: creating, finding, disabling and rotating keys; secrets are stored sealed."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from botocore.credentials import Credentials

from opentrail.access.keys import KeyDirectory, NewKey
from opentrail.adapters.keys.sealing import AesGcmSealer
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.errors import StorageFailed, UsageError
from opentrail.core.identity import account_of_key
from opentrail.ports.control import ControlStore
from opentrail.wire.signature_errors import JSON_WORDING, SignatureRefused
from opentrail.wire.verification import Place, verify
from tests.fakes import Documents, MemoryControl, SettableClock, asynchronous
from tests.wire.signed_requests import signed

ANN = "arn:aws:iam::111122223333:user/team/ann"
SESSION = "arn:aws:sts::444455556666:assumed-role/auditor/bob"
MASTER = b"m" * 32


def directory(
    control: ControlStore, master: bytes = MASTER, clock: SettableClock | None = None
) -> KeyDirectory:
    return KeyDirectory(control, AesGcmSealer(master), clock or SettableClock(datetime.now(UTC)))


def caller(keys: KeyDirectory, new: NewKey, now: datetime | None = None) -> str:
    """Returns the caller of a signed request, or the code of its refusal."""
    credentials = Credentials(new.key.access_key_id, new.secret_access_key, new.session_token)
    request = signed(credentials=credentials).request
    try:
        verified = verify(request, keys.find, now or datetime.now(UTC), Place(JSON_WORDING))
    except SignatureRefused as refused:
        return refused.code
    return verified.access_key_id


@asynchronous
async def test_new_key_has_awss_form_with_its_account() -> None:
    keys = directory(MemoryControl())
    new = await keys.create(ANN)
    assert re.fullmatch("AKIA[A-Z2-7]{16}", new.key.access_key_id)
    assert re.fullmatch("[A-Za-z0-9+/]{40}", new.secret_access_key)
    assert new.session_token is None
    assert account_of_key(new.key.access_key_id) == new.key.account == "111122223333"
    assert caller(keys, new) == new.key.access_key_id


@asynchronous
async def test_keys_of_an_account_differ() -> None:
    keys = directory(MemoryControl())
    made = [await keys.create(ANN) for _ in range(50)]
    assert len({new.key.access_key_id for new in made}) == 50
    assert len({new.secret_access_key for new in made}) == 50


@asynchronous
async def test_a_temporary_key_needs_its_token_and_expires() -> None:
    clock = SettableClock(datetime.now(UTC))
    keys = directory(MemoryControl(), clock=clock)
    new = await keys.create(SESSION, timedelta(seconds=60))
    assert re.fullmatch("ASIA[A-Z2-7]{16}", new.key.access_key_id)
    assert account_of_key(new.key.access_key_id) == "444455556666"
    assert caller(keys, new) == new.key.access_key_id
    without = NewKey(new.key, new.secret_access_key, None)
    other = NewKey(new.key, new.secret_access_key, "another")
    assert caller(keys, without) == caller(keys, other) == "UnrecognizedClientException"
    later = clock.now() + timedelta(seconds=61)
    assert caller(keys, new, later) == "ExpiredTokenException"


@asynchronous
async def test_no_secret_or_token_is_stored_or_printed() -> None:
    disk: Documents = {}
    keys = directory(MemoryControl(disk))
    new = await keys.create(SESSION, timedelta(hours=1))
    await keys.import_key("AKIAIMPORTED", "imported-secret", ANN)
    stored = json.dumps([text for _, text in disk.values()])
    texts = stored + repr(new) + str(await keys.list_keys())
    for secret in (new.secret_access_key, new.session_token, "imported-secret"):
        assert secret
        assert secret not in texts


@asynchronous
async def test_keys_outlive_the_process(tmp_path: Path) -> None:
    control = SqlControl.in_file(tmp_path / "state.db")
    new = await directory(control).create(ANN)
    await control.close()
    control = SqlControl.in_file(tmp_path / "state.db")
    keys = directory(control)
    assert keys.find(new.key.access_key_id) is None
    await keys.load()
    assert caller(keys, new) == new.key.access_key_id
    assert await keys.list_keys() == [new.key]
    await control.close()


@asynchronous
async def test_with_another_master_key_loading_fails_by_name() -> None:
    disk: Documents = {}
    new = await directory(MemoryControl(disk)).create(ANN)
    with pytest.raises(StorageFailed, match="restore the previous key") as caught:
        await directory(MemoryControl(disk), b"x" * 32).load()
    assert new.key.access_key_id in str(caught.value)


@asynchronous
async def test_secret_moved_to_another_key_is_not_accepted() -> None:
    disk: Documents = {}
    keys = directory(MemoryControl(disk))
    mine, yours = await keys.create(ANN), await keys.create(ANN)
    places = [("access-key", new.key.access_key_id) for new in (mine, yours)]
    documents = [json.loads(disk[place][1]) for place in places]
    documents[1]["secret"] = documents[0]["secret"]
    disk[places[1]] = (1, json.dumps(documents[1]))
    with pytest.raises(StorageFailed, match=f"{yours.key.access_key_id} was changed"):
        await keys.load()


@asynchronous
async def test_disabled_key_is_refused_until_it_is_enabled() -> None:
    keys = directory(MemoryControl())
    new = await keys.create(ANN)
    assert not (await keys.disable(new.key.access_key_id)).is_active
    assert caller(keys, new) == "UnrecognizedClientException"
    assert (await keys.enable(new.key.access_key_id)).is_active
    assert caller(keys, new) == new.key.access_key_id


@asynchronous
async def test_a_deleted_key_is_unknown() -> None:
    keys = directory(MemoryControl())
    new = await keys.create(ANN)
    await keys.delete(new.key.access_key_id)
    assert caller(keys, new) == "UnrecognizedClientException"
    assert await keys.list_keys() == []
    for change in (keys.delete, keys.disable, keys.enable, keys.rotate):
        with pytest.raises(UsageError, match="not found"):
            await change(new.key.access_key_id)


@asynchronous
async def test_rotation_replaces_a_key_immediately_or_later() -> None:
    clock = SettableClock(datetime.now(UTC))
    keys = directory(MemoryControl(), clock=clock)
    first = await keys.create(ANN)
    second = await keys.rotate(first.key.access_key_id)
    assert second.key.principal == ANN
    assert caller(keys, first) == "UnrecognizedClientException"
    assert caller(keys, second) == second.key.access_key_id
    third = await keys.rotate(second.key.access_key_id, timedelta(minutes=1))
    assert caller(keys, second) == second.key.access_key_id
    assert caller(keys, third) == third.key.access_key_id
    later = clock.now() + timedelta(minutes=2)
    assert caller(keys, second, later) == "ExpiredTokenException"
    assert caller(keys, third, later) == third.key.access_key_id


@asynchronous
async def test_only_an_active_long_term_key_is_rotated() -> None:
    keys = directory(MemoryControl())
    temporary = await keys.create(SESSION, timedelta(hours=1))
    with pytest.raises(UsageError, match="is temporary"):
        await keys.rotate(temporary.key.access_key_id)
    old = await keys.create(ANN)
    await keys.rotate(old.key.access_key_id, timedelta(hours=1))
    with pytest.raises(UsageError, match="disabled or was rotated"):
        await keys.rotate(old.key.access_key_id)


@asynchronous
async def test_one_of_many_concurrent_rotations_succeeds(tmp_path: Path) -> None:
    file = tmp_path / "state.db"
    controls = [SqlControl.in_file(file) for _ in range(4)]
    old = await directory(controls[0]).create(ANN)
    done = await asyncio.gather(
        *(directory(control).rotate(old.key.access_key_id) for control in controls),
        return_exceptions=True,
    )
    made = [each for each in done if isinstance(each, NewKey)]
    assert len(made) == 1
    assert all(isinstance(each, UsageError) for each in done if each is not made[0])
    listed = await directory(controls[0]).list_keys()
    assert {key.access_key_id: key.is_active for key in listed} == {
        old.key.access_key_id: False,
        made[0].key.access_key_id: True,
    }
    for control in controls:
        await control.close()


@asynchronous
async def test_keys_made_elsewhere_are_imported_once() -> None:
    keys = directory(MemoryControl())
    await keys.import_key("test", "test", ANN)
    new = NewKey((await keys.list_keys())[0], "test", None)
    assert caller(keys, new) == "test"
    with pytest.raises(UsageError, match="in the directory already"):
        await keys.import_key("test", "other", ANN)
    expires = datetime(2020, 1, 1, tzinfo=UTC)
    old = await keys.import_key("ASIAOLD", "s", SESSION, "token", expires)
    assert old.is_temporary
    assert caller(keys, NewKey(old, "s", "token")) == "ExpiredTokenException"


@pytest.mark.parametrize(
    ("key_id", "secret", "principal"),
    [
        ("a b", "s", ANN),
        ("ab", "s", ANN),
        ("AKIA/1", "s", ANN),
        ("AKIA1", "", ANN),
        ("AKIA1", "ä", ANN),
        ("AKIA1", "s", "ann"),
        ("AKIA1", "s", "arn:aws:iam::1:user/ann"),
        ("AKIA1", "s", "arn:aws:iam::111122223333:role/r"),
    ],
)
@asynchronous
async def test_invalid_keys_are_not_imported(key_id: str, secret: str, principal: str) -> None:
    with pytest.raises(UsageError):
        await directory(MemoryControl()).import_key(key_id, secret, principal)


@asynchronous
async def test_keys_are_listed_by_account_and_principal() -> None:
    keys = directory(MemoryControl())
    mine = await keys.create(ANN)
    other = await keys.create("arn:aws:iam::111122223333:root")
    session = await keys.create(SESSION, timedelta(hours=1))
    assert {key.principal for key in await keys.list_keys("111122223333")} == {
        ANN,
        other.key.principal,
    }
    assert await keys.list_keys(principal=ANN) == [mine.key]
    assert await keys.list_keys(account="444455556666") == [session.key]


@asynchronous
async def test_a_lifetime_must_be_positive() -> None:
    with pytest.raises(UsageError, match="positive"):
        await directory(MemoryControl()).create(SESSION, timedelta(0))
