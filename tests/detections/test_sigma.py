"""Files of Sigma rules: their rules, and the refused ones, by name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from opentrail.core.errors import UsageError
from opentrail.detections import sigma
from opentrail.detections.rules import (
    AllOf,
    AnyOf,
    Compared,
    Correlation,
    Like,
    Negation,
    OneOf,
    RuleSelection,
)
from opentrail.detections.sigma import read_rules
from tests.detections.sample import DETECTIONS, sample_rule, write_samples

LOGINS = """
title: Failed sign-in
name: failed_login
author: Ada
level: low
tags: [attack.t1110]
logsource: {product: aws, service: cloudtrail}
detection: {s: {eventName: ConsoleLogin, errorMessage: Failed authentication}, condition: s}
---
title: Many failed sign-ins
name: many_failed_logins
level: high
correlation:
  type: event_count
  rules: [failed_login]
  group-by: [sourceIPAddress]
  timespan: 10m
  condition: {gt: 4}
"""


def refusal(folder: Path, text: str) -> str:
    """Returns the reason for refusing a rule."""
    (folder / "rule.yml").write_text(text)
    found = read_rules([folder / "rule.yml"])
    assert found.rules == []
    [reason] = found.refused.values()
    return reason


def test_a_folder_of_rules(tmp_path: Path) -> None:
    found = read_rules([write_samples(tmp_path / "rules")])
    assert {rule.name for rule in found.rules} == set(DETECTIONS)
    assert found.refused == {}
    by_name = {rule.name: rule.condition for rule in found.rules}
    assert by_name["names"] == AnyOf(
        (OneOf("eventName", ("GetObject", "createuser")), Like("List*", "eventName"))
    )
    assert by_name["number"] == Compared("additionalEventData.bytesTransferredIn", "=", 0)
    assert isinstance(by_name["two_fields"], AllOf)
    assert isinstance(by_name["not_source"], Negation)


def test_a_correlation_replaces_its_rules(tmp_path: Path) -> None:
    file = tmp_path / "logins.yml"
    file.write_text(LOGINS)
    [rule] = read_rules([file]).rules
    assert (rule.name, rule.title, rule.level) == (
        "many_failed_logins",
        "Many failed sign-ins",
        "high",
    )
    condition = AllOf(
        (
            OneOf("eventName", ("ConsoleLogin",)),
            OneOf("errorMessage", ("Failed authentication",)),
        )
    )
    selection = RuleSelection("failed_login", condition, ("sourceIPAddress",))
    assert rule.correlation == Correlation("event_count", (selection,), 600, 5)
    file.write_text(LOGINS.replace("timespan", "generate: true\n  timespan"))
    both = read_rules([file]).rules
    assert [rule.name for rule in both] == ["failed_login", "many_failed_logins"]
    assert (both[0].author, both[0].tags) == ("Ada", ("attack.t1110",))


def test_values_and_selections_are_also_counted(tmp_path: Path) -> None:
    file = tmp_path / "logins.yml"
    values = LOGINS.replace("event_count", "value_count")
    file.write_text(values.replace("{gt: 4}", "{gte: 3, field: userIdentity.arn}"))
    [rule] = read_rules([file]).rules
    assert rule.correlation is not None
    assert (rule.correlation.count, rule.correlation.field) == (3, "userIdentity.arn")
    file.write_text(LOGINS.replace("event_count", "temporal").replace("condition: {gt: 4}", ""))
    [rule] = read_rules([file]).rules
    assert rule.correlation is not None
    assert rule.correlation.count == 1


@pytest.mark.parametrize(
    ("detection", "reason"),
    [
        (
            "{s: {status: success}, condition: s}",
            "can never match: records have no member 'status'",
        ),
        ("{s: {eventname: GetObject}, condition: s}", "did you mean 'eventName'"),
        ("{s: {userIdentity.username: ada}, condition: s}", "did you mean 'userName'"),
        (
            "{s: {eventSource: iam.amazon.com}, condition: s}",
            "no event source 'iam.amazon.com'; did",
        ),
        ("{s: {eventSource|startswith: iamm}, condition: s}", "no event source is like 'iamm*'"),
        ("{s: {eventName: PassRole}, condition: s}", "iam:PassRole is a permission"),
        (
            "{s: {eventSource: s3.amazonaws.com, eventName: PutEncryptionConfiguration},"
            " condition: s}",
            "s3:PutEncryptionConfiguration is a permission only; the events are DeleteBucket",
        ),
        ("{s: {errorCode: Success}, condition: s}", "use errorCode: null"),
        ("{s: {eventName|match: x}, condition: s}", "Unknown modifier 'match'"),
        ("{s: {eventTime|hour: 3}, condition: s}", "minute, hour, day, week, month, year are not"),
        ("{s: {userAgent|expand: '%tools%'}, condition: s}", "placeholders"),
        ("{s: {userAgent|re: '(?=a)'}, condition: s}", "(?=a)"),
        ("{s: {eventName: ListUsers}, condition: s | count() > 5}", "write a correlation instead"),
        ("{s: {eventName: ListUsers}, condition: t}", "t"),
        ("{s: {sourceIPAddress|cidr: 10.0.0.0/99}, condition: s}", "10.0.0.0/99"),
    ],
)
def test_impossible_conditions_are_refused(tmp_path: Path, detection: str, reason: str) -> None:
    assert reason in refusal(tmp_path, sample_rule("r", detection))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a: [", "not YAML"),
        ("- a", "a rule must be a mapping"),
        ("title: x", "must have a log source"),
        ("title: x\nlogsource: {product: windows}\ndetection: 3", "etection"),
        (
            sample_rule("r", "{s: {Image: x}, condition: s}").replace("aws", "windows"),
            "product aws and service cloudtrail, not product windows, service cloudtrail",
        ),
        (
            "title: x\ncorrelation: {type: event_count, rules: [missing], group-by: [userAgent],"
            " timespan: 5m, condition: {gte: 5}}",
            "no valid rule 'missing'",
        ),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    assert reason in refusal(tmp_path, text)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("event_count", "value_avg", "without field reference"),
        ("event_count", "temporal_ordered", "temporal_ordered are not supported, only event_count"),
        ("{gt: 4}", "{lt: 4}", "gte or gt a whole number"),
        ("{gt: 4}", "{gt: 4000}", "count must be 1 to 1000"),
        ("10m", "30d", "1 second to 7 days"),
        ("[sourceIPAddress]", "[SourceIp]", "records have no member 'SourceIp'"),
        ("event_count", "value_count", "without field reference"),
    ],
)
def test_uncountable_correlations_are_refused(
    tmp_path: Path, old: str, new: str, reason: str
) -> None:
    (tmp_path / "r.yml").write_text(LOGINS.replace(old, new))
    refused = read_rules([tmp_path]).refused
    assert reason in refused["many_failed_logins"]


def test_an_unmatchable_alternative_is_a_warning(tmp_path: Path) -> None:
    names = (
        "{s: {eventSource: iam.amazonaws.com, eventName: [PassRole, CreateUser, MakeUser]},"
        " condition: s}"
    )
    (tmp_path / "r.yml").write_text(sample_rule("r", names))
    found = read_rules([tmp_path])
    assert len(found.rules) == 1
    second, first = sorted(found.warnings["r"])
    assert second == "no API of iam.amazonaws.com has an operation 'MakeUser'"
    assert "iam:PassRole is a permission" in first


def test_two_rules_of_one_name(tmp_path: Path) -> None:
    for name in ("a.yml", "b.yml"):
        (tmp_path / name).write_text(sample_rule("r", DETECTIONS["names"]))
    found = read_rules([tmp_path])
    assert len(found.rules) == 1
    assert found.refused == {f"r in {tmp_path}/b.yml": "there is another rule of this name"}


def test_no_rules_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no Sigma rules in"):
        read_rules([tmp_path])
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_rules([tmp_path / "missing.yml"])
    (tmp_path / "large.yml").write_text("#" * (1024 * 1024 + 1))
    with pytest.raises(UsageError, match="has more than 1048576 bytes"):
        read_rules([tmp_path])


@pytest.mark.parametrize("count", [60, 3_000, 20_000])
def test_only_the_deep_rule_is_refused(tmp_path: Path, count: int) -> None:
    (tmp_path / "deep.yml").write_text(
        "title: Deep\nlogsource: {product: aws, service: cloudtrail}\n"
        f"detection: {{s: {{eventName: A}}, condition: {'not ' * count}s}}\n"
    )
    (tmp_path / "login.yml").write_text(LOGINS)
    found = read_rules([tmp_path])
    assert [rule.name for rule in found.rules] == ["many_failed_logins"]
    [reason] = found.refused.values()
    assert "50 levels deep" in reason


def test_large_rule_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sigma, "SigmaRule", None)
    condition = " or ".join(["s"] * 50_000)
    reason = refusal(
        tmp_path,
        "title: Large\nlogsource: {product: aws, service: cloudtrail}\n"
        f"detection: {{s: {{eventName: A}}, condition: {condition}}}\n",
    )
    assert "at most 131072 bytes" in reason


def test_the_source_of_a_rule_is_complete(tmp_path: Path) -> None:
    single, _, correlation = LOGINS.partition("---\n")
    (tmp_path / "r.yml").write_text(f"# of ours\n{LOGINS}\nfalsepositives: [A script, Tests]\n")
    [rule] = read_rules([tmp_path]).rules
    assert rule.source.startswith(single.strip())
    assert correlation.strip() in rule.source
    assert rule.falsepositives == ("A script", "Tests")
    (tmp_path / "r.yml").write_text(rule.source)
    assert read_rules([tmp_path]).rules == [rule]


def test_aliases_are_refused(tmp_path: Path) -> None:
    text = "a: &a [x, x]\nb: &b [*a, *a]\n"
    assert "aliases are not supported in" in refusal(tmp_path, text)


def test_rule_may_be_json_with_escapes(tmp_path: Path) -> None:
    rule = {
        "title": "Watch \U0001f440",
        "name": "emoji_rule",
        "level": "low",
        "logsource": {"product": "aws", "service": "cloudtrail"},
        "detection": {"s": {"eventName": "CreateUser"}, "condition": "s"},
    }
    file = tmp_path / "rule.yml"
    file.write_text(json.dumps(rule))
    (read,) = read_rules([file]).rules
    assert read.title == rule["title"]
    half = json.dumps({**rule, "title": "\ud83d"})
    assert "half of a surrogate pair" in refusal(tmp_path, half)
