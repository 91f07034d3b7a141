"""Resource-based policies are stored with their resources, and found without reading."""

from __future__ import annotations

import json

import pytest

from opentrail.access.resource_policies import KINDS, ResourcePolicies, removal
from opentrail.core.arns import CloudTrailArn
from opentrail.core.errors import Conflict, MalformedPolicy, StorageFailed
from opentrail.ports.control import Put
from tests.fakes import Documents, MemoryControl, asynchronous

STORE = CloudTrailArn("eventdatastore", "us-east-1", "111122223333", "a-store")
DOCUMENT = json.dumps(
    {
        "Statement": {
            "Effect": "Allow",
            "Principal": "*",
            "Action": "cloudtrail:StartQuery",
            "Resource": "*",
        }
    }
)


@asynchronous
async def test_a_policy_is_found_until_it_is_deleted() -> None:
    policies = ResourcePolicies(MemoryControl())
    assert policies.find(STORE) is None
    assert await policies.read(STORE) is None
    await policies.put(STORE, DOCUMENT)
    found = policies.find(STORE)
    assert found is not None
    assert found.name == str(STORE)
    assert await policies.read(STORE) == DOCUMENT
    await policies.delete(STORE)
    assert policies.find(STORE) is None
    assert await policies.read(STORE) is None
    await policies.delete(STORE)


@asynchronous
async def test_reload_finds_changes_of_other_processes() -> None:
    control = MemoryControl()
    one, two = ResourcePolicies(control), ResourcePolicies(control)
    await one.put(STORE, DOCUMENT)
    assert two.find(STORE) is None
    await two.load()
    found = two.find(STORE)
    assert found is not None
    assert found.name == str(STORE)
    await control.apply([removal(STORE)])
    await one.load()
    assert one.find(STORE) is None


@asynchronous
async def test_a_policy_is_of_one_resource_only() -> None:
    policies = ResourcePolicies(MemoryControl())
    await policies.put(STORE, DOCUMENT)
    for other in (
        CloudTrailArn("channel", STORE.region, STORE.account, STORE.name),
        CloudTrailArn(STORE.type, "us-east-2", STORE.account, STORE.name),
        CloudTrailArn(STORE.type, STORE.region, "444455556666", STORE.name),
        CloudTrailArn(STORE.type, STORE.region, STORE.account, "another"),
    ):
        assert policies.find(other) is None


@pytest.mark.parametrize("kind", KINDS)
@asynchronous
async def test_resource_exists_if_the_store_has_its_document(kind: str) -> None:
    control = MemoryControl()
    policies = ResourcePolicies(control)
    arn = CloudTrailArn(kind, "us-east-1", "111122223333", "x")
    assert not await policies.exists(arn)
    await control.apply([Put(KINDS[kind], "111122223333/us-east-1/x", {})])
    assert await policies.exists(arn)
    assert not await policies.exists(CloudTrailArn("trail", "us-east-1", "111122223333", "x"))


@asynchronous
async def test_an_invalid_policy_is_not_stored() -> None:
    policies = ResourcePolicies(MemoryControl())
    with pytest.raises(MalformedPolicy, match="Principal"):
        await policies.put(STORE, DOCUMENT.replace('"Principal": "*", ', ""))
    assert await policies.read(STORE) is None


@asynchronous
async def test_one_of_two_concurrent_policies_is_refused() -> None:
    control = MemoryControl()

    class Interrupted(MemoryControl):
        async def apply(self, changes: object) -> None:
            await ResourcePolicies(control).put(STORE, DOCUMENT)
            await super().apply(changes)  # type: ignore[arg-type]

    with pytest.raises(Conflict):
        await ResourcePolicies(Interrupted(control.disk)).put(STORE, DOCUMENT)


@asynchronous
async def test_a_damaged_policy_is_named_and_another_stays() -> None:
    disk: Documents = {}
    policies = ResourcePolicies(MemoryControl(disk))
    await policies.put(STORE, DOCUMENT)
    for place in disk:
        disk[place] = (2, json.dumps({"policy": "{"}))
    with pytest.raises(StorageFailed, match="111122223333/us-east-1/eventdatastore/a-store"):
        await policies.load()
    assert policies.find(STORE) is not None
