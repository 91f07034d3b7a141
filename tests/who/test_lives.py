"""The lives of a name: created, changed, renamed, deleted, and made again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.attributes import Resource, attributes_of
from opentrail.ports.event_store import FoundEvent
from opentrail.who.resource_stories import Change, Life, Lives, Step
from tests.asking import at
from tests.factories import record_bytes


class Calls:
    """Successful calls about users and parameters, in order."""

    def __init__(self) -> None:
        self.steps: list[Step] = []

    def call(
        self,
        event_name: str,
        *names: str,
        kind: str = "AWS::IAM::User",
        rename: tuple[str, str] | None = None,
        version: int | None = None,
    ) -> int:
        """Adds a call and returns its position."""
        position = len(self.steps) + 1
        record: dict[str, Any] = at(0, eventName=event_name, readOnly=event_name.startswith("Get"))
        event = FoundEvent.of(position, attributes_of(record), record_bytes(record).decode())
        self.steps.append(Step(Change(event, Resource(kind, names[0])), names, rename, version))
        return position

    def rename(self, former: str, new: str) -> int:
        return self.call("UpdateUser", former, rename=(former, new))

    def put(self, name: str, version: int | None = None) -> int:
        return self.call("PutParameter", name, kind="AWS::SSM::Parameter", version=version)

    def of(self, name: str) -> list[tuple[Life, list[Life]]]:
        return Lives(self.steps).of({name})

    def only(self, name: str) -> Life:
        ((life, former),) = self.of(name)
        assert former == []
        return life


def position(change: Change | None) -> int | None:
    return change.event.position if change else None


# Creation


def test_a_first_put_creates_and_later_puts_change() -> None:
    calls = Calls()
    first, second = calls.put("p"), calls.put("p")
    life = calls.only("p")
    assert (position(life.created), life.is_certain) == (first, False)
    assert [*map(position, life.changed)] == [second]


@pytest.mark.parametrize("event_name", ["GetParameter", "AddTagsToResource"])
def test_a_put_after_another_call_is_a_change(event_name: str) -> None:
    calls = Calls()
    calls.call(event_name, "p", kind="AWS::SSM::Parameter")
    put = calls.put("p")
    life = calls.only("p")
    assert life.created is None
    assert position(life.main_change) == put


def test_version_in_an_answer_distinguishes_creating_from_updating() -> None:
    calls = Calls()
    calls.call("GetParameter", "p", kind="AWS::SSM::Parameter")
    put = calls.put("p", version=1)
    assert (position(calls.only("p").created), calls.only("p").is_certain) == (put, True)
    calls = Calls()
    calls.put("p", version=2)
    assert calls.only("p").created is None


def test_a_versioned_name_is_created_by_any_version() -> None:
    calls = Calls()
    kind = "AWS::ECS::TaskDefinition"
    calls.call("DescribeTaskDefinition", "web:7", kind=kind)
    registered = calls.call("RegisterTaskDefinition", "web:7", kind=kind, version=7)
    life = calls.only("web:7")
    assert (position(life.created), life.is_certain) == (registered, True)


def test_a_put_after_a_deletion_certainly_creates() -> None:
    calls = Calls()
    calls.call("DeleteParameter", "p", kind="AWS::SSM::Parameter")
    put = calls.put("p")
    ((life, former),) = calls.of("p")
    assert (position(life.created), life.is_certain) == (put, True)
    assert len(former) == 1


def test_a_repeated_idempotent_creation_changes_nothing() -> None:
    calls = Calls()
    first = calls.call("CreateQueue", "q", kind="AWS::SQS::Queue")
    calls.call("CreateQueue", "q", kind="AWS::SQS::Queue")
    life = calls.only("q")
    assert (position(life.created), life.is_certain, life.changed) == (first, False, [])


def test_a_creation_may_follow_a_read() -> None:
    calls = Calls()
    calls.call("GetUser", "Mary")
    created = calls.call("CreateUser", "Mary")
    life = calls.only("Mary")
    assert (position(life.created), life.is_certain) == (created, True)


def test_names_only_read_have_no_life() -> None:
    calls = Calls()
    calls.call("GetUser", "Mary")
    assert calls.of("Mary") == []


# Ends


def test_a_restored_resource_continues_its_life() -> None:
    calls = Calls()
    created = calls.call("CreateSecret", "s", kind="AWS::SecretsManager::Secret")
    calls.call("DeleteSecret", "s", kind="AWS::SecretsManager::Secret")
    restored = calls.call("RestoreSecret", "s", kind="AWS::SecretsManager::Secret")
    life = calls.only("s")
    assert (position(life.created), life.deleted) == (created, None)
    assert [*map(position, life.changed)] == [restored]


def test_a_repeated_deletion_does_not_hide_the_first() -> None:
    calls = Calls()
    calls.call("CreateUser", "Mary")
    deleted = calls.call("DeleteUser", "Mary")
    calls.call("DeleteUser", "Mary")
    assert position(calls.only("Mary").deleted) == deleted


def test_changes_after_a_deletion_belong_to_it() -> None:
    calls = Calls()
    calls.call("CreateUser", "Mary")
    deleted = calls.call("DeleteUser", "Mary")
    calls.call("TagUser", "Mary")
    life = calls.only("Mary")
    assert (position(life.deleted), len(life.changed)) == (deleted, 1)


def test_creation_without_a_recorded_deletion_begins_another_life() -> None:
    calls = Calls()
    first, second = calls.call("CreateUser", "Mary"), calls.call("CreateUser", "Mary")
    ((life, (former,)),) = calls.of("Mary")
    assert (position(life.created), position(former.created)) == (second, first)
    assert former.deleted is None


# Several names


def test_both_names_of_a_resource_have_its_life() -> None:
    calls = Calls()
    created, renamed = calls.call("CreateUser", "Mary"), calls.rename("Mary", "Maria")
    tagged = calls.call("TagUser", "Maria")
    for name in ("Mary", "Maria"):
        life = calls.only(name)
        assert (position(life.created), life.names) == (created, ["Mary", "Maria"])
        assert [*map(position, life.changed)] == [renamed, tagged]
    created = calls.call("CreateUser", "Mary")
    ((life, former),) = calls.of("Mary")
    assert position(life.created) == created
    assert [each.names for each in former] == [["Mary", "Maria"]]


def test_earlier_names_later_calls_mean_another_resource() -> None:
    calls = Calls()
    calls.call("CreateUser", "Mary")
    calls.rename("Mary", "Maria")
    tagged = calls.call("TagUser", "Mary")
    assert len(calls.only("Maria").changed) == 1
    ((life, _),) = calls.of("Mary")
    assert (life.created, [*map(position, life.changed)]) == (None, [tagged])


def test_resources_with_ids_are_all_present() -> None:
    calls = Calls()
    kind = "AWS::EC2::SecurityGroup"
    calls.call("CreateSecurityGroup", "web", "sg-1", kind=kind)
    calls.call("CreateSecurityGroup", "web", "sg-2", kind=kind)
    opened = calls.call("AuthorizeSecurityGroupIngress", "web", "sg-1", kind=kind)
    (second, _), (first, former) = calls.of("web")
    assert (first.names, second.names) == (["web", "sg-1"], ["web", "sg-2"])
    assert ([*map(position, first.changed)], former) == ([opened], [])
    calls.call("DeleteSecurityGroup", "sg-1", kind=kind)
    ((life, (former_life,)),) = calls.of("web")
    assert (life.names, former_life.names) == (["web", "sg-2"], ["web", "sg-1"])
    assert calls.only("sg-1").deleted


# Any history


@dataclass
class Being:
    """A present or past user."""

    created: int
    names: list[str]
    changes: list[int] = field(default_factory=list)
    deleted: int | None = None


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["create", "rename", "delete", "change", "read"]),
            st.sampled_from("abc"),
            st.sampled_from("abc"),
        ),
        max_size=25,
    )
)
def test_lives_match_a_plain_model(calls: list[tuple[str, str, str]]) -> None:
    made, present, past = Calls(), dict[str, Being](), list[Being]()
    for call, name, other in calls:
        being = present.get(name)
        if call == "create" and being is None:
            present[name] = Being(made.call("CreateUser", name), [name])
            past.append(present[name])
        elif call == "rename" and being and other not in present:
            being.changes.append(made.rename(name, other))
            being.names = [each for each in being.names if each != other] + [other]
            present[other] = present.pop(name)
        elif call == "delete" and being:
            being.deleted = made.call("DeleteUser", name)
            del present[name]
        elif call == "change" and being:
            being.changes.append(made.call("TagUser", name))
        elif call == "read" and being:
            made.call("GetUser", name)
    for name in "abc":
        had = [being for being in reversed(past) if name in being.names]
        first = present.get(name) or (had[0] if had else None)
        expected = [] if first is None else [first, *(b for b in had if b is not first)]
        found = [each for life, former in made.of(name) for each in (life, *former)]
        assert [
            (position(life.created), life.names, [*map(position, life.changed)]) for life in found
        ] == [(being.created, being.names, being.changes) for being in expected]
        assert [position(life.deleted) for life in found] == [b.deleted for b in expected]
