"""Timelines: the events of one entry, and its wording."""

from __future__ import annotations

from typing import Any

from opentrail.history.event_history import Search
from opentrail.who.timeline import CallGroup, entries_of, name_original_callers
from tests.api.caller import Api
from tests.asking import assumed, at, did
from tests.factories import an_assumed_role, an_iam_user, an_insight_record, event_id
from tests.fakes import asynchronous

CLI = " through the AWS CLI"


async def timeline(*records: dict[str, Any]) -> list[CallGroup]:
    """Returns the entries of these records and no others."""
    api = Api()
    api.world.clock.advance(86_400)
    numbered = [{**record, "eventID": event_id(n)} for n, record in enumerate(records, 1)]
    await api.record(numbered)
    events = await api.history.latest(Search(), 1_000)
    entries = entries_of(events[::-1])
    await name_original_callers(api.history, entries)
    return entries


def created(minute: int, name: str, **changes: Any) -> dict[str, Any]:
    return did(minute, "CreateUser", {"userName": name}, **changes)


@asynchronous
async def test_calls_of_one_kind_are_one_entry() -> None:
    (entry,) = await timeline(created(1, "Mary"), created(2, "Eve"), created(3, "Eve"))
    assert entry.words == f"IAM user John created 2 IAM users{CLI}, 3 times"
    assert entry.event_ids == [event_id(1), event_id(2), event_id(3)]
    assert list(entry.resources) == ["Mary", "Eve"]
    assert (entry.first.event_time.minute, entry.last.event_time.minute) == (1, 3)


@asynchronous
async def test_single_and_equal_calls_are_one_sentence() -> None:
    (once,) = await timeline(created(1, "Mary"))
    assert once.words == f"IAM user John created IAM user Mary{CLI}"
    (twice,) = await timeline(created(1, "Mary"), created(2, "Mary"))
    assert twice.words == f"IAM user John created IAM user Mary{CLI}, 2 times"


@asynchronous
async def test_calls_with_several_objects_are_counted() -> None:
    def attached(minute: int, user: str) -> dict[str, Any]:
        arn = "arn:aws:iam::aws:policy/AdministratorAccess"
        return did(minute, "AttachUserPolicy", {"userName": user, "policyArn": arn})

    (entry,) = await timeline(attached(1, "Mary"), attached(2, "Eve"), attached(3, "Bob"))
    assert entry.words.endswith(", and 2 more such calls")
    assert "AdministratorAccess" in entry.words


@asynchronous
async def test_callers_outcomes_and_long_pauses_divide_calls() -> None:
    refused = {"errorCode": "AccessDenied", "errorMessage": "no"}
    entries = await timeline(
        created(1, "Mary"),
        created(2, "Mary", userIdentity=an_iam_user("Ann")),
        created(3, "Mary", **refused),
        created(4, "Eve"),
        created(20, "Bob"),
    )
    words = [entry.words.removesuffix(CLI) for entry in entries]
    assert words == [
        "IAM user John created 2 IAM users",
        "IAM user Ann created IAM user Mary",
        f"IAM user John called CreateUser on IAM user Mary{CLI} and was refused (AccessDenied)",
        "IAM user John created IAM user Bob",
    ]
    assert [entry.calls for entry in entries] == [2, 1, 1, 1]


@asynchronous
async def test_the_caller_behind_a_session_is_named() -> None:
    session = an_assumed_role("DataRole", "etl")
    entries = await timeline(
        assumed(1, session["accessKeyId"], an_iam_user("Ann")),
        at(2, userIdentity=session, eventName="ListUsers", readOnly=True),
        at(3, userIdentity={**session, "accessKeyId": "ASIAIOSFODNN7UNKNOWN"}),
    )
    assert [entry.behind for entry in entries] == [None, "IAM user Ann", None]


@asynchronous
async def test_an_entry_lists_few_of_many_events() -> None:
    (entry,) = await timeline(*(created(1, f"user-{n}") for n in range(30)))
    assert entry.words == f"IAM user John created 30 IAM users{CLI}"
    assert (entry.calls, len(entry.event_ids), len(entry.resources)) == (30, 20, 20)


@asynchronous
async def test_sessions_with_one_name_have_different_callers() -> None:
    """Records without an access key distinguish sessions by their start."""
    records = []
    for minute, name, user in ((1, "Alice", "Mary"), (5, "Mallory", "Eve")):
        began = f"2020-01-01T09:{minute:02}:00Z"
        session = {k: v for k, v in an_assumed_role("Ops", "s").items() if k != "accessKeyId"}
        context = {**session["sessionContext"], "attributes": {"creationDate": began}}
        used = {**session, "sessionContext": context}
        made = assumed(minute, f"ASIA{name.upper():X<16}", an_iam_user(name), "Ops")
        made["responseElements"]["assumedRoleUser"] = {"arn": session["arn"]}
        made["requestParameters"]["roleSessionName"] = "s"
        records += [made, created(minute + 1, user, userIdentity=used)]
    entries = [
        entry for entry in await timeline(*records) if entry.first.event_name != "AssumeRole"
    ]
    assert [entry.calls for entry in entries] == [1, 1]
    assert [entry.behind for entry in entries] == ["IAM user Alice", "IAM user Mallory"]


@asynchronous
async def test_findings_are_timeline_entries() -> None:
    (entry,) = await timeline(an_insight_record(eventName="RunInstances"))
    assert entry.words == "RunInstances: unusual activity"
