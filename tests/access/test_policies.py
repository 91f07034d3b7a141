"""The policy directory: policies are stored and attached; all processes agree on them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from opentrail.access.policies import AWS_MANAGED, CustomerPolicy, PolicyDirectory
from opentrail.access.resource_policies import ResourcePolicies
from opentrail.adapters.sql.control_store import SqlControl
from opentrail.core.arns import CloudTrailArn
from opentrail.core.errors import (
    Conflict,
    MalformedPolicy,
    OpentrailError,
    StorageFailed,
    UsageError,
)
from opentrail.core.policies import AccessRequest, Caller, decide
from tests.fakes import Documents, MemoryControl, asynchronous, run

ACCOUNT, OTHER = "111122223333", "444455556666"
ANN = f"arn:aws:iam::{ACCOUNT}:user/team/ann"
BOB = f"arn:aws:iam::{ACCOUNT}:user/bob"
DEPLOY = f"arn:aws:iam::{ACCOUNT}:role/service/deploy"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/build-7"
LIST = "cloudtrail:ListTrails"


def document(effect: str = "Allow", action: Any = LIST, **more: Any) -> str:
    statement = {"Effect": effect, "Action": action, "Resource": "*", **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def may(policies: PolicyDirectory, principal: str, action: str = LIST) -> bool:
    account = principal.split(":")[4]
    request = AccessRequest(Caller(account, principal), action, "*", account)
    return decide(request, policies.policies_of(principal), None).is_allowed


def names(policies: PolicyDirectory, principal: str) -> list[str]:
    return [policy.name.rpartition("/")[2] for policy in policies.policies_of(principal)]


@asynchronous
async def test_a_policy_allows_its_principals() -> None:
    policies = PolicyDirectory(MemoryControl())
    made = await policies.put_policy(ACCOUNT, "list", document())
    assert made.arn == f"arn:aws:iam::{ACCOUNT}:policy/list"
    assert not may(policies, ANN)
    attached = await policies.attach(ANN, "list")
    assert (attached.principal, attached.policies) == (ANN, ("list",))
    assert may(policies, ANN)
    assert not may(policies, BOB)
    assert not may(policies, ANN.replace(ACCOUNT, OTHER))
    await policies.detach(ANN, "list")
    assert not may(policies, ANN)


@asynchronous
async def test_concurrent_policies_are_all_stored(tmp_path: Path) -> None:
    control = SqlControl.in_file(tmp_path / "state.db")
    policies, resources = PolicyDirectory(control), ResourcePolicies(control)
    store = CloudTrailArn("eventdatastore", "us-east-1", ACCOUNT, "a-store")
    await asyncio.gather(
        *(policies.put_policy(ACCOUNT, f"list-{number}", document()) for number in range(20)),
        *(resources.put(store, document(Principal="*")) for _ in range(20)),
    )
    assert len(await policies.list_policies(ACCOUNT)) == 20
    await control.close()


@asynchronous
async def test_a_replaced_policy_takes_effect_at_every_attachment() -> None:
    policies = PolicyDirectory(MemoryControl())
    await policies.put_policy(ACCOUNT, "p", document())
    for principal in (ANN, BOB, DEPLOY):
        await policies.attach(principal, "p")
    await policies.put_policy(ACCOUNT, "p", document("Deny"))
    assert not any(may(policies, principal) for principal in (ANN, BOB, SESSION))


@asynchronous
async def test_a_session_has_its_roles_policies() -> None:
    policies = PolicyDirectory(MemoryControl())
    await policies.attach(DEPLOY, "ReadOnlyAccess")
    assert names(policies, SESSION) == names(policies, DEPLOY) == ["ReadOnlyAccess"]
    assert names(policies, SESSION.replace("/deploy/", "/other/")) == []
    assert names(policies, SESSION.replace(ACCOUNT, OTHER)) == []
    again = await policies.attach(f"arn:aws:iam::{ACCOUNT}:role/deploy", "ReadOnlyAccess")
    assert again.policies == ("ReadOnlyAccess",)


@pytest.mark.parametrize(
    "principal",
    [
        f"arn:aws:iam::{ACCOUNT}:root",
        f"arn:aws:sts::{ACCOUNT}:federated-user/eve",
        f"arn:aws:iam::{ACCOUNT}:group/team",
        "",
        "user/bob",
    ],
)
@asynchronous
async def test_other_principals_cannot_have_policies(principal: str) -> None:
    policies = PolicyDirectory(MemoryControl())
    assert policies.policies_of(principal) == ()
    with pytest.raises(UsageError, match="is not a user or role"):
        await policies.attach(principal, "ReadOnlyAccess")


@asynchronous
async def test_a_policy_is_attached_to_a_role_only() -> None:
    with pytest.raises(UsageError, match="is not a user or role"):
        await PolicyDirectory(MemoryControl()).attach(SESSION, "ReadOnlyAccess")


@pytest.mark.parametrize("name", sorted(AWS_MANAGED))
@asynchronous
async def test_awss_managed_policies_exist_and_stay_unchanged(name: str) -> None:
    policies = PolicyDirectory(MemoryControl())
    await policies.attach(ANN, name)
    assert policies.policies_of(ANN)[0].name == f"arn:aws:iam::aws:policy/{name}"
    assert may(policies, ANN)
    assert may(policies, ANN, "cloudtrail:DeleteTrail") == (
        name in ("AdministratorAccess", "AWSCloudTrail_FullAccess")
    )
    assert may(policies, ANN, "cloudtrail-data:PutAuditEvents") == (name == "AdministratorAccess")
    with pytest.raises(UsageError, match="AWS managed policy"):
        await policies.put_policy(ACCOUNT, name, document())


@asynchronous
async def test_an_attached_policy_is_not_deleted() -> None:
    policies = PolicyDirectory(MemoryControl())
    await policies.put_policy(ACCOUNT, "p", document())
    await policies.attach(ANN, "p")
    with pytest.raises(UsageError, match=f"attached to {ANN}; detach it first"):
        await policies.delete_policy(ACCOUNT, "p")
    await policies.detach(ANN, "p")
    await policies.delete_policy(ACCOUNT, "p")
    assert await policies.list_policies() == []
    with pytest.raises(UsageError, match="'p' not found"):
        await policies.delete_policy(ACCOUNT, "p")


@asynchronous
async def test_a_policy_of_another_account_is_not_attached() -> None:
    policies = PolicyDirectory(MemoryControl())
    await policies.put_policy(OTHER, "theirs", document())
    with pytest.raises(UsageError, match=f"'theirs' not found in account {ACCOUNT}"):
        await policies.attach(ANN, "theirs")
    with pytest.raises(UsageError, match="is not attached"):
        await policies.detach(ANN, "theirs")
    assert await policies.list_attachments() == []


@pytest.mark.parametrize(
    ("account", "name", "text", "error", "what"),
    [
        ("1", "p", document(), UsageError, "12 digits"),
        (ACCOUNT, "", document(), UsageError, "1 to 128"),
        (ACCOUNT, "a b", document(), UsageError, "1 to 128"),
        (ACCOUNT, "a/b", document(), UsageError, "1 to 128"),
        (ACCOUNT, "p" * 129, document(), UsageError, "1 to 128"),
        (ACCOUNT, "p", document(action=["x:" + "a" * 6144]), UsageError, "6144"),
        (ACCOUNT, "p", "{", MalformedPolicy, "Syntax"),
        (ACCOUNT, "p", document("Perhaps"), MalformedPolicy, "effect"),
        (ACCOUNT, "p", document(Principal="*"), MalformedPolicy, "principal"),
        (ACCOUNT, "p", document(Condition={"Sounds": {"a:b": "c"}}), MalformedPolicy, "Sounds"),
    ],
)
@asynchronous
async def test_invalid_values_are_refused_and_not_stored(
    account: str, name: str, text: str, error: type[OpentrailError], what: str
) -> None:
    policies = PolicyDirectory(MemoryControl())
    with pytest.raises(error, match=what):
        await policies.put_policy(account, name, text)
    assert await policies.list_policies() == []


@asynchronous
async def test_a_principal_has_ten_policies_at_most() -> None:
    policies = PolicyDirectory(MemoryControl())
    for number in range(11):
        await policies.put_policy(ACCOUNT, f"p{number}", document())
    for number in range(10):
        await policies.attach(ANN, f"p{number}")
    with pytest.raises(UsageError, match="10 policies already"):
        await policies.attach(ANN, "p10")
    assert len(policies.policies_of(ANN)) == 10


@asynchronous
async def test_policies_and_attachments_are_listed() -> None:
    policies = PolicyDirectory(MemoryControl())
    await policies.put_policy(ACCOUNT, "b", document())
    await policies.put_policy(ACCOUNT, "a", document("Deny"))
    await policies.put_policy(OTHER, "c", document())
    await policies.attach(ANN, "b")
    await policies.attach(ANN, "ReadOnlyAccess")
    await policies.attach(DEPLOY, "a")
    listed = await policies.list_policies(ACCOUNT)
    assert listed == [
        CustomerPolicy(ACCOUNT, "a", document("Deny")),
        CustomerPolicy(ACCOUNT, "b", document()),
    ]
    assert [policy.account for policy in await policies.list_policies()] == [
        ACCOUNT,
        ACCOUNT,
        OTHER,
    ]
    attached = await policies.list_attachments(ACCOUNT)
    assert {each.principal: each.policies for each in attached} == {
        ANN: ("b", "ReadOnlyAccess"),
        DEPLOY: ("a",),
    }
    assert await policies.list_attachments(OTHER) == []


@asynchronous
async def test_policies_outlive_the_process(tmp_path: Path) -> None:
    control = SqlControl.in_file(tmp_path / "state.db")
    first = PolicyDirectory(control)
    await first.put_policy(ACCOUNT, "p", document())
    await first.attach(ANN, "p")
    await control.close()
    control = SqlControl.in_file(tmp_path / "state.db")
    second = PolicyDirectory(control)
    assert not may(second, ANN)
    await second.load()
    assert may(second, ANN)
    await control.close()


@asynchronous
async def test_unchanged_policies_stay_compiled() -> None:
    control = MemoryControl()
    policies = PolicyDirectory(control)
    await policies.put_policy(ACCOUNT, "p", document())
    await policies.attach(ANN, "p")
    before = policies.policies_of(ANN)
    await PolicyDirectory(control).put_policy(ACCOUNT, "q", document())
    await policies.load()
    assert policies.policies_of(ANN)[0] is before[0]


@pytest.mark.parametrize(
    "stored",
    [
        {"policies": {"p": "{"}, "attached": {}},
        {"policies": {}, "attached": {"user/team/ann": {"principal": ANN, "policies": ["p"]}}},
    ],
)
@asynchronous
async def test_damaged_store_is_named_and_loaded_policies_stay(stored: Any) -> None:
    disk: Documents = {}
    policies = PolicyDirectory(MemoryControl(disk))
    await policies.attach(ANN, "SecurityAudit")
    disk["account-policies", ACCOUNT] = (2, json.dumps(stored))
    with pytest.raises(StorageFailed, match="p"):
        await policies.load()
    assert names(policies, ANN) == ["SecurityAudit"]


@asynchronous
async def test_concurrent_changes_all_happen(tmp_path: Path) -> None:
    controls = [SqlControl.in_file(tmp_path / "state.db") for _ in range(3)]
    directories = [PolicyDirectory(control) for control in controls]
    await asyncio.gather(
        *(each.put_policy(ACCOUNT, f"p{n}", document()) for n, each in enumerate(directories))
    )
    await asyncio.gather(*(each.attach(ANN, f"p{n}") for n, each in enumerate(directories)))
    for each in directories:
        await each.load()
        assert sorted(names(each, ANN)) == ["p0", "p1", "p2"]
    for control in controls:
        await control.close()


@asynchronous
async def test_either_attaching_or_deleting_a_policy_succeeds() -> None:
    control = MemoryControl()
    one, two = PolicyDirectory(control), PolicyDirectory(control)
    for _ in range(20):
        await one.put_policy(ACCOUNT, "p", document())
        done = await asyncio.gather(
            one.attach(ANN, "p"), two.delete_policy(ACCOUNT, "p"), return_exceptions=True
        )
        assert sum(isinstance(each, UsageError) for each in done) == 1
        await two.load()
        assert names(two, ANN) == ([] if isinstance(done[0], UsageError) else ["p"])
        if not isinstance(done[0], UsageError):
            await one.detach(ANN, "p")


class _Beaten(MemoryControl):
    """A store in which others are always faster."""

    async def apply(self, changes: Any) -> None:
        raise Conflict("changed")


@asynchronous
async def test_a_change_that_always_conflicts_ends() -> None:
    with pytest.raises(Conflict, match="try again"):
        await PolicyDirectory(_Beaten()).attach(ANN, "SecurityAudit")


POLICY_NAMES = ["p", "q", "SecurityAudit", "absent"]
STEPS = st.tuples(
    st.integers(0, 1),
    st.sampled_from(["put", "deny", "delete", "attach", "detach", "load"]),
    st.sampled_from([ANN, BOB, DEPLOY]),
    st.sampled_from(POLICY_NAMES),
)


@pytest.mark.slow
@pytest.mark.hypothesis
@settings(max_examples=200)
@given(st.lists(STEPS, max_size=25))
def test_two_directories_of_one_store_agree_after_loading(
    steps: list[tuple[int, str, str, str]],
) -> None:
    control = MemoryControl()
    both = (PolicyDirectory(control), PolicyDirectory(control))

    async def take(who: int, what: str, principal: str, name: str) -> None:
        changes: dict[str, Callable[[], Awaitable[object]]] = {
            "put": lambda: both[who].put_policy(ACCOUNT, name, document()),
            "deny": lambda: both[who].put_policy(ACCOUNT, name, document("Deny")),
            "delete": lambda: both[who].delete_policy(ACCOUNT, name),
            "attach": lambda: both[who].attach(principal, name),
            "detach": lambda: both[who].detach(principal, name),
            "load": lambda: both[who].load(),
        }
        try:
            await changes[what]()
        except UsageError:
            return
        if what in ("attach", "detach"):
            assert (name in names(both[who], principal)) == (what == "attach")

    async def story() -> None:
        for step in steps:
            await take(*step)
        fresh = PolicyDirectory(control)
        for each in (*both, fresh):
            await each.load()
        stored = {a.principal: list(a.policies) for a in await fresh.list_attachments()}
        for principal in (ANN, BOB, DEPLOY):
            found = [names(each, principal) for each in (*both, fresh)]
            assert found == [stored.get(principal, [])] * 3
            assert len({may(each, principal) for each in (*both, fresh)}) == 1

    run(story())


@pytest.mark.hypothesis
@given(st.text() | st.from_regex(r"arn:aws:(iam|sts)::[0-9]{12}:.*"))
def test_any_string_without_policies_has_none(text: str) -> None:
    assert PolicyDirectory(MemoryControl()).policies_of(text) == ()
