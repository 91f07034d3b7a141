"""Agents are recorded, found and named by the user agents of real SDKs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.collection import PART
from tests.live.browser import Browser
from tests.live.processes import Opentrail

pytestmark = pytest.mark.live

APP_ID = {"user_agent_appid": "agent-claude-code"}


def agent_in_record(server: Opentrail, name: str) -> Any:
    """Returns the agent from the record of the call that names a resource."""
    (record,) = server.records(f"resource={name}")
    return record["additionalEventData"]["opentrail"].get("agent")


def in_a_session(server: Opentrail, session: str, **more: Any) -> dict[str, Any]:
    """Returns the arguments of a client with a session of a new role."""
    role = server.boto("iam").create_role(
        RoleName=f"For-{session.replace('+', '-')}", AssumeRolePolicyDocument="{}"
    )
    answer = server.boto("sts").assume_role(
        RoleArn=role["Role"]["Arn"], RoleSessionName=session, **more
    )
    credentials = answer["Credentials"]
    return {
        "key": credentials["AccessKeyId"],
        "secret": credentials["SecretAccessKey"],
        "token": credentials["SessionToken"],
    }


def test_an_application_id_names_the_agent(server: Opentrail) -> None:
    server.boto("iam", **APP_ID).create_group(GroupName="by-application")
    server.boto("s3", **APP_ID).create_bucket(Bucket="by-application-too")

    claude = {"name": "Claude Code", "kind": "agent"}
    assert agent_in_record(server, "by-application") == claude
    assert agent_in_record(server, "by-application-too") == claude
    said = server.opentrail("who", "by-application").stdout
    assert "IAM user admin's agent Claude Code created IAM group by-application through" in said


def test_session_and_source_identity_name_agent_and_delegator(server: Opentrail) -> None:
    session = in_a_session(server, "agent+payroll-bot", SourceIdentity="ada@example.com")
    server.boto("iam", **session).create_group(GroupName="by-session")

    assert agent_in_record(server, "by-session") == {
        "name": "payroll-bot",
        "kind": "agent",
        "session": "agent+payroll-bot",
        "delegator": "ada@example.com",
    }
    said = server.opentrail("who", "by-session").stdout
    assert "'s agent payroll-bot (session agent+payroll-bot) created IAM group" in said


def test_session_tag_names_the_agent_of_its_calls(server: Opentrail) -> None:
    tags = [{"Key": "agent", "Value": "night-bot+ada"}]
    session = in_a_session(server, "tagged", Tags=tags)
    server.boto("iam", **session).create_group(GroupName="by-tag")

    bot = {"name": "night-bot", "kind": "agent", "delegator": "ada"}
    assert agent_in_record(server, "by-tag") == bot
    assert [r["requestParameters"] for r in server.records("agent=night-bot", "is:write")] == [
        {"groupName": "by-tag"}
    ]
    assert (
        "'s agent night-bot (session tagged) created IAM group"
        in server.opentrail("who", "by-tag").stdout
    )


def test_calls_of_ordinary_clients_have_no_agent(server: Opentrail) -> None:
    session = in_a_session(server, "night-shift", SourceIdentity="ada")
    server.boto("iam").create_group(GroupName="by-hand")
    server.boto("iam", user_agent_appid="billing").create_group(GroupName="by-billing")
    server.boto("iam", **session).create_group(GroupName="by-night")
    server.aws("iam", "create-group", "--group-name", "by-the-command-line")

    for name in ("by-hand", "by-billing", "by-night", "by-the-command-line"):
        (record,) = server.records(f"resource={name}")
        assert "agent" not in json.dumps(record.get("additionalEventData", {}))


def test_agents_are_searched_for(server: Opentrail) -> None:
    server.boto("iam", user_agent_appid="agent+crawler").create_group(GroupName="searched-for")

    for expression in ("agent=crawler", "agent=craw*", "agent:CRAWLER", "agent=* NOT agent=[a-c]"):
        names = [record["requestParameters"] for record in server.records(expression)]
        assert {"groupName": "searched-for"} in names
    assert not server.records("agent=crawl", "resource=searched-for")


def test_tools_are_found_in_awss_events(server: Opentrail) -> None:
    done = server.opentrail("import", str(PART / "invictus-aws_dataset.ndjson"))
    assert done.returncode == 0, done.stderr

    found = server.records("agent=Terraform")
    assert found
    assert all("Terraform" in record["userAgent"] for record in found)
    assert not any("opentrail" in record.get("additionalEventData", {}) for record in found)
    like = server.opentrail("lookup", "agent=terraform", "--all-regions", "--all-accounts").stderr
    assert "no agent is terraform; shown is Terraform" in like


def test_the_console_counts_and_shows_agents(console: Browser, server: Opentrail) -> None:
    server.boto("iam", user_agent_appid="agent+shown").create_group(GroupName="shown-there")

    console.go("events?expression=resource%3Dshown-there")
    page = console.page
    page.get_by_role("button", name="Agent", exact=True).click()
    page.get_by_role("button", name="shown", exact=True).click()
    page.get_by_role("link", name="created IAM group shown-there").click()
    page.get_by_text("By the agent, as it says").wait_for()
