"""Detections from a rule to its events, against a server of real processes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.adapters.test_webhook import Stub, stub_webhook
from tests.live.browser import Browser
from tests.live.processes import Opentrail, eventually, moto_server, opentrail_server
from tests.live.test_cluster import cluster_in
from tests.live.test_insight_selectors import ship_insight

pytestmark = [pytest.mark.live, pytest.mark.slow]

RULES = """
title: A key for another user
name: key_for_another_user
level: high
author: Ada
logsource: {product: aws, service: cloudtrail}
detection:
  s: {eventName: CreateAccessKey, requestParameters.userName|exists: true}
  condition: s
---
title: Many keys
name: many_keys
level: critical
correlation:
  type: value_count
  rules: [key_for_another_user]
  group-by: [sourceIPAddress]
  timespan: 1h
  condition: {gte: 2, field: requestParameters.userName}
  generate: true
"""


def printed(server: Opentrail, *arguments: str) -> Any:
    answer = server.opentrail(*arguments, "--json")
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)


def make_keys(server: Opentrail, *users: str) -> None:
    iam = server.boto("iam")
    for user in users:
        iam.create_user(UserName=user)
        iam.create_access_key(UserName=user)


def counts(server: Opentrail) -> dict[str, int]:
    return {
        rule["name"]: rule["matches"] for rule in printed(server, "detections", "list")["rules"]
    }


def test_a_rule_from_its_test_to_its_events(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    folder = tmp_path / "server"
    with moto_server() as upstream:
        with opentrail_server(folder, "--upstream", upstream) as server:
            make_keys(server, "ann", "bob")
            tested = printed(server, "detections", "test", str(rules))
            found = {rule["rule"]: rule["matches"] for rule in tested["rules"]}
            assert found == {"key_for_another_user": 2, "many_keys": 1}
            printed(server, "detections", "enable", str(rules))
            make_keys(server, "carl", "dora")
            expected = {"key_for_another_user": 2, "many_keys": 1}
            eventually(lambda: counts(server) == expected, "all are matched")
            match = "eventCategory=Detection AND eventName=many_keys"
            lines = server.opentrail("lookup", match, "--all-categories", "--json").stdout
            details = json.loads(lines)["detectionDetails"]
            assert len(details["eventIDs"]) == 2
            named = server.opentrail("lookup", f"eventID={details['eventIDs'][-1]}", "--json")
            assert json.loads(named.stdout)["requestParameters"] == {"userName": "dora"}
            events = server.boto("cloudtrail").lookup_events()["Events"]
            assert not any("detectionDetails" in event["CloudTrailEvent"] for event in events)
        with opentrail_server(folder, "--upstream", upstream) as server:
            make_keys(server, "emma")
            eventually(lambda: counts(server)["key_for_another_user"] == 3, "it goes on")
            assert counts(server)["many_keys"] == 1, "the burst goes on"
            printed(server, "detections", "disable", "many_keys")
            assert set(counts(server)) == {"key_for_another_user"}


def test_alerts_have_slacks_form_and_outlast_a_crash(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    with stub_webhook() as stub, moto_server() as upstream:
        flags = (
            *("--upstream", upstream, "--console-url", "https://trail.example"),
            *("--webhook-url", f"{stub.url}/services/T0/B0/X"),
            *("--config", str(tmp_path / "opentrail.toml")),
        )
        (tmp_path / "opentrail.toml").write_text(
            '[webhook]\nform = "slack"\nnetworks = ["127.0.0.0/8"]\n'
        )
        folder = tmp_path / "server"
        stub.statuses = [503]
        with opentrail_server(folder, *flags) as server:
            printed(server, "detections", "enable", str(rules))
            make_keys(server, "ann")
            eventually(lambda: len(stub.came) == 2, "the alert is sent again")
            make_keys(server, "bob", "carl")
            eventually(lambda: counts(server)["key_for_another_user"] == 3, "all are matched")
            eventually(
                lambda: "(critical, rule many_keys): " in alerts(stub)[-1], "of this rule too"
            )
            server.kill()
        sent = len(stub.came)
        with opentrail_server(folder, *flags) as server:
            eventually(lambda: len(stub.came) > sent, "what waited is sent")
            match = "eventName=CreateAccessKey"
            answer = server.opentrail("lookup", match, "--json")
            ids = {json.loads(line)["eventID"] for line in answer.stdout.splitlines()}
        first, again, *_ = alerts(stub)
        assert first == again
        sentence = re.compile(
            r"A key for another user \(high, rule key_for_another_user by Ada\): "
            r"(?:arn:\S+|an unknown caller with the access key \w+) "
            r"called CreateAccessKey of iam\.amazonaws\.com from 127\.0\.0\.1 at \S+Z in account "
            r"\d{12}, us-east-1 \(event (\S+)\)\.\nhttps://trail\.example/console/events/\1"
        )
        found = sentence.fullmatch(first)
        assert found, first
        assert found[1] in ids
        after = sentence.fullmatch(alerts(stub)[sent])
        assert after, "the second match of the rule, which waited when the server was killed"
        assert after[1] in ids - {found[1]}


def alerts(stub: Stub) -> list[str]:
    bodies = [json.loads(body) for _, _, body in stub.came]
    assert all(body.keys() == {"text", "mrkdwn"} for body in bodies)
    return [body["text"] for body in bodies]


KEY = "0123456789abcdef0123456789abcdef"


def test_insights_alert_survives_a_crash(tmp_path: Path) -> None:
    folder = tmp_path / "server"
    with stub_webhook() as stub, moto_server() as upstream:
        settings = tmp_path / "opentrail.toml"
        settings.write_text(
            f"""
            upstream = "{upstream}"
            console_url = "https://trail.example"
            [webhook]
            url = "{stub.url}"
            networks = ["127.0.0.0/8"]
            form = "pagerduty"
            routing_key = "{KEY}"
            insights = "on"
            """
        )
        settings.chmod(0o600)
        with opentrail_server(folder, "--config", str(settings)) as server:
            ship_insight(server.data_dir, 1, state="Start")
            eventually(lambda: len(stub.came) == 1, "an alert")
            stub.statuses = [503] * 100
            ship_insight(server.data_dir, 2, state="End")
            eventually(lambda: len(stub.came) > 1, "its end, which is not accepted")
            server.kill()
        stub.statuses = []
        sent = len(stub.came)
        with opentrail_server(folder, "--config", str(settings)):
            eventually(lambda: len(stub.came) > sent, "the end is sent again")
    opened, *_, resolved = [json.loads(body) for _, _, body in stub.came]
    text = opened["payload"]["summary"]
    reported = re.fullmatch(
        r"Unusual activity \(ApiCallRateInsight\): IAM CreateUser: 42 calls in 5 minutes, usually "
        r"0\.1 an hour, mostly by user John, since \S+Z in account 123456789012, us-east-1 "
        r"\(insight (\S+)\)\.",
        text,
    )
    assert reported, text
    assert opened["links"][0]["href"] == f"https://trail.example/console/insights/{reported[1]}"
    assert opened["dedup_key"] == reported[1]
    expected = {"routing_key": KEY, "event_action": "resolve", "dedup_key": reported[1]}
    assert resolved == expected


@pytest.mark.campaign
def test_in_a_cluster_each_match_is_recorded_once(tmp_path: Path) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    with cluster_in(tmp_path) as cluster:
        one, two = cluster.add("one", "two")
        worker = cluster.worker()
        [other] = cluster.others(worker)
        printed(other, "detections", "enable", str(rules))
        make_keys(one, "ann")
        make_keys(two, "bob")
        expected = {"key_for_another_user": 2, "many_keys": 1}
        eventually(lambda: counts(other) == expected, "all are matched")
        make_keys(other, "carl")
        worker.kill()
        make_keys(other, "dora")
        eventually(lambda: counts(other)["key_for_another_user"] == 4, "the other goes on")
        assert counts(other)["many_keys"] == 1


@pytest.mark.campaign
def test_console_leads_from_a_rule_to_its_events(
    console: Browser, server: Opentrail, tmp_path: Path
) -> None:
    rules = tmp_path / "rules.yml"
    rules.write_text(RULES)
    printed(server, "detections", "enable", str(rules))
    make_keys(server, "fred", "gina")
    expected = {"key_for_another_user": 2, "many_keys": 1}
    eventually(lambda: counts(server) == expected, "all are matched")
    page = console.page
    console.go("detections")
    page.get_by_role("table", name="Rules").get_by_role("link", name="Many keys").click()
    expect(page.get_by_role("heading", name="Newest matches of Many keys")).to_be_visible()
    expect(page.get_by_role("table", name="Matches").get_by_role("row")).to_have_count(2)
    assert console.violations() == []
    page.get_by_role("link", name="2 events").click()
    expect(page.get_by_role("grid", name="Events").get_by_role("row")).to_have_count(3)
    console.go("detections?name=key_for_another_user")
    page.get_by_role("link", name="CreateAccessKey").first.click()
    expect(page).to_have_url(re.compile("/console/events/[0-9a-f-]{36}$"))
    expect(page.get_by_role("heading", name="IAM user admin")).to_be_visible()


@pytest.mark.campaign
def test_starter_rule_is_switched_on_matches_and_off(console: Browser, server: Opentrail) -> None:
    page = console.page
    console.go("detections?filter=t1098+another")
    page.get_by_role("checkbox", name="Enable Access key created").click(force=True)
    name = "access_key_for_another_user"
    eventually(lambda: name in counts(server), "the rule is enabled")
    make_keys(server, "hugo")
    eventually(lambda: counts(server)[name] >= 1, "it is matched")
    console.go("")
    page.get_by_role("link", name="Access key created for another user").click()
    page.get_by_role("button", name="Test on the last 90 days").click()
    expect(page.get_by_text("Would have matched")).to_be_visible()
    page.get_by_role("table", name="Matches").get_by_role(
        "link", name="CreateAccessKey"
    ).first.click()
    expect(page.get_by_text("Found by rule Access key created for another user.")).to_be_visible()
    assert console.violations() == []
    page.get_by_role("link", name="Access key created for another user", exact=True).click()
    page.get_by_role("button", name="Disable").click()
    expect(page.get_by_role("button", name="Enable")).to_be_visible()
    assert name not in counts(server)


@pytest.mark.campaign
def test_a_rule_is_written_in_the_console(console: Browser, server: Opentrail) -> None:
    page = console.page
    console.go("detections")
    page.get_by_role("link", name="Write a rule").click()
    text = page.get_by_role("textbox", name="Rule")
    expect(text).to_have_value(re.compile("name: user_created"))
    template = text.input_value()
    text.fill(template.replace("eventName: CreateUser", "status: x"))
    page.get_by_role("button", name="Test on the last 90 days").click()
    expect(page.get_by_text("line 13: it can never match")).to_be_visible()
    assert console.violations() == []
    text.fill(template)
    page.get_by_role("button", name="Test on the last 90 days").click()
    expect(page.get_by_text(re.compile("Would (not )?have matched"))).to_be_visible()
    page.get_by_role("button", name="Enable", exact=True).click()
    expect(page.get_by_role("heading", name="Users created by people", exact=True)).to_be_visible()
    assert "user_created" in counts(server)
    page.get_by_role("button", name="Disable").click()
    page.get_by_role("button", name="Disable and remove").click()
    expect(page.get_by_text("This rule is disabled")).to_be_visible()
    assert "user_created" not in counts(server)
    # The browser logs each error: one of the test, one of the deleted rule.
    assert [text.partition("status of ")[2][:3] for text in console.problems] == ["400", "404"]
    console.problems.clear()
