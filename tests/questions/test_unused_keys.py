"""Access keys that were never used."""

from __future__ import annotations

from typing import Any

from tests.api.caller import filled
from tests.factories import event_id
from tests.fakes import asynchronous
from tests.questions.keys import creation, deletion, key_id, use

FAILED = {"errorCode": "AccessDenied", "errorMessage": "no"}


async def found(*records: dict[str, Any], **query: str) -> dict[str, Any]:
    api = await filled(*records)
    answer = await api.ask("/api/v1/unused-keys", **query)
    assert answer.status == 200, answer.body
    document: dict[str, Any] = answer.json
    return document


def ids(answer: dict[str, Any]) -> list[str]:
    return [key["accessKeyId"] for key in answer["keys"]]


@asynchronous
async def test_an_unused_key_is_found_with_its_creation() -> None:
    answer = await found(creation(1), use(2))
    (key,) = answer["keys"]
    assert (key["accessKeyId"], key["userName"]) == (key_id(1), "user-1")
    assert key["eventId"] == event_id(1)
    assert key["createdBy"].endswith("user/John")
    assert answer["complete"]


@asynchronous
async def test_used_and_deleted_keys_are_left_out() -> None:
    records = [creation(n) for n in (1, 2, 3)]
    assert ids(await found(*records, use(1), deletion(2))) == [key_id(3)]


@asynchronous
async def test_failed_calls_use_a_key() -> None:
    records = [creation(n) for n in (1, 2)]
    answer = await found(*records, use(1, **FAILED), deletion(2, **FAILED))
    assert ids(answer) == [key_id(2)]


@asynchronous
async def test_failed_creation_made_no_key() -> None:
    assert ids(await found({**creation(1, **FAILED), "responseElements": None})) == []


@asynchronous
async def test_data_event_is_a_use() -> None:
    read = use(1, eventCategory="Data", managementEvent=False, eventName="GetObject")
    assert ids(await found(creation(1), read)) == []


@asynchronous
async def test_newest_keys_up_to_the_limit() -> None:
    answer = await found(*(creation(n) for n in range(1, 6)), limit="2")
    assert len(ids(answer)) == 2
    assert not answer["complete"]
    assert len(ids(await found(*(creation(n) for n in range(1, 6)), limit="5"))) == 5


@asynchronous
async def test_other_accounts_keys_are_left_out_on_request() -> None:
    other = creation(2, recipientAccountId="210987654321")
    assert ids(await found(creation(1), other, account="210987654321")) == [key_id(2)]
