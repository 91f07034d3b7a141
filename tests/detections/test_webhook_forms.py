"""The message of a match for each service, which no value can change."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from opentrail.core.incident_reports import incidents_of
from opentrail.detections.matching import json_of
from opentrail.detections.webhook_forms import (
    FORMS,
    Alert,
    InsightAlert,
    Match,
    MatchAlert,
    alertmanager,
    pagerduty,
    slack,
    teams,
)
from tests.factories import KEY, a_principal_record, an_insight_record, event_id

CONSOLE = "https://trail.example"
LINK = f"{CONSOLE}/console/events/{event_id(1)}"
SENTENCE = (
    "A KMS key & more will be deleted (high, rule kms_key_deletion by Ada): "
    "arn:aws:iam::123456789012:user/John called DisableKey of kms.amazonaws.com from 192.0.2.10 "
    f"at 2020-01-01T09:00:00Z in account 123456789012, us-east-1 (event {event_id(1)})."
)


def a_match(number: int = 1, source: Any = "192.0.2.10", **details: Any) -> Match:
    """Returns a match of the event with a number, a second after the previous one."""
    record = {
        "eventTime": f"2020-01-01T09:00:{number - 1:02}Z",
        "awsRegion": "us-east-1",
        "eventID": event_id(100 + number),
        "recipientAccountId": "123456789012",
        "detectionDetails": {
            "eventName": "kms_key_deletion",
            "title": "A KMS key & more will be deleted",
            "level": "high",
            "author": "Ada",
            "matchedEventSource": "kms.amazonaws.com",
            "matchedEventName": "DisableKey",
            "eventIDs": [event_id(number)],
            "principals": ["arn:aws:iam::123456789012:user/John"],
            **details,
        },
    }
    return Match(record, {} if source is None else {"sourceIPAddress": source})


def an_alert(console_url: str | None = CONSOLE, **details: Any) -> MatchAlert:
    match = a_match(**details)
    return MatchAlert(1, match, match, console_url)


def bodies(alert: Alert) -> dict[str, Any]:
    found = {name: form(alert) for name, form in FORMS.items()}
    found["pagerduty"] = pagerduty(alert, "s3cret")
    return found


def texts(alert: Alert) -> dict[str, str]:
    """Returns the sentence for people in each service."""
    found = bodies(alert)
    card = found["teams"]["attachments"][0]["content"]
    return {
        "slack": html.unescape(found["slack"]["text"]),
        "teams": card["body"][0]["inlines"][0]["text"],
        "pagerduty": found["pagerduty"]["payload"]["custom_details"]["text"],
        "alertmanager": found["alertmanager"][0]["annotations"]["description"],
    }


def test_slack_gets_a_message_without_markup() -> None:
    escaped = SENTENCE.replace("&", "&amp;")
    assert slack(an_alert()) == {"text": f"{escaped}\n{LINK}", "mrkdwn": False}
    assert slack(an_alert(None)) == {"text": escaped, "mrkdwn": False}


def test_teams_gets_an_adaptive_card() -> None:
    [attachment] = teams(an_alert())["attachments"]
    assert attachment["contentType"] == "application/vnd.microsoft.card.adaptive"
    assert attachment["content"] == {
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": [{"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": SENTENCE}]}],
        "actions": [{"type": "Action.OpenUrl", "title": "Open the event", "url": LINK}],
    }
    assert "actions" not in teams(an_alert(None))["attachments"][0]["content"]


def test_pagerduty_gets_an_event_to_trigger() -> None:
    body = pagerduty(an_alert(), "s3cret")
    assert body == {
        "routing_key": "s3cret",
        "event_action": "trigger",
        "dedup_key": event_id(101),
        "client": "opentrail",
        "payload": {
            "summary": SENTENCE,
            "severity": "error",
            "source": "kms.amazonaws.com",
            "class": "kms_key_deletion",
            "custom_details": {"text": SENTENCE, "matches": 1},
            "timestamp": "2020-01-01T09:00:00Z",
        },
        "links": [{"href": LINK, "text": "Open the event"}],
    }
    long = pagerduty(an_alert(title="t" * 600, author="a" * 600, matchedEventName="e" * 600), "k")
    assert len(long["payload"]["summary"]) == 1_024
    assert "links" not in pagerduty(an_alert(None), "k")


@pytest.mark.parametrize(
    ("level", "severity"),
    [("critical", "critical"), ("high", "error"), ("medium", "warning"), ("low", "info")],
)
def test_each_level_has_a_severity_of_pagerduty(level: str, severity: str) -> None:
    assert pagerduty(an_alert(level=level), "k")["payload"]["severity"] == severity


def test_alertmanager_gets_a_list_of_one() -> None:
    assert alertmanager(an_alert()) == [
        {
            "labels": {
                "alertname": "kms_key_deletion",
                "severity": "high",
                "event_id": event_id(101),
            },
            "annotations": {
                "summary": "A KMS key & more will be deleted",
                "description": SENTENCE,
            },
            "startsAt": "2020-01-01T09:00:00Z",
            "generatorURL": LINK,
        }
    ]
    assert "generatorURL" not in alertmanager(an_alert(None))[0]


def test_digest_names_the_first_and_the_last_match() -> None:
    digest = MatchAlert(240, a_match(1), a_match(59, source=None, principals=[]), CONSOLE)
    for text in texts(digest).values():
        assert " matched 240 times between 2020-01-01T09:00:00Z and 2020-01-01T09:00:58Z; " in text
        assert re.search(rf"; first: arn:.*/John called .*{event_id(1)}\); last: ", text)
        assert re.search(rf"; last: an unknown caller called .*{event_id(59)}\)\.", text)
    assert bodies(digest)["pagerduty"]["dedup_key"] == event_id(101), "the same when sent again"


def test_several_events_and_principals_are_counted() -> None:
    text = an_alert(eventIDs=[event_id(3), event_id(4)], principals=["a", "b", "c"]).text
    assert "a (and 2 more) called" in text
    assert f"(event {event_id(4)}, the last of 2)" in text


def test_unknown_caller_has_its_access_key() -> None:
    record = a_match(principals=[]).record
    match = Match(record, {"userIdentity": {"type": "Unknown", "accessKeyId": KEY}})
    text = MatchAlert(1, match, match).text
    assert f"an unknown caller with the access key {KEY} called DisableKey" in text
    match = Match(record, {"userIdentity": "nobody"})
    assert "an unknown caller called DisableKey" in MatchAlert(1, match, match).text


def test_an_invalid_time_is_left_out() -> None:
    match = a_match()
    match = Match({**match.record, "eventTime": "yesterday"})
    alert = MatchAlert(1, match, match)
    assert "at an unknown time in account" in alert.text
    assert "timestamp" not in pagerduty(alert, "k")["payload"]
    assert "startsAt" not in alertmanager(alert)[0]


@given(who=st.text(min_size=1), what=st.text(), where=st.text(min_size=1))
@example("<!channel>", "*x*", "_y_ `z`")
@example("\x1b[31m\r\n", "\u202e\u2028", "{{DATE(2020-01-01T09:00:00Z)}}")
@example("\ud800", '" called "', "a" * 10_000)
@example("{{{", "\x00" * 250, "\U000e0001" * 400)
def test_no_value_changes_the_message_of_an_alert(who: str, what: str, where: str) -> None:
    alert = an_alert(None, principals=[who], matchedEventName=what, source=where)
    name = r'([\w\-.:/@+=,]+|"(?:[^"\\]|\\.)*")'
    sentence = re.compile(
        rf"A KMS key & more will be deleted \(high, rule kms_key_deletion by Ada\): {name} called "
        rf"{name} of kms\.amazonaws\.com from {name} at 2020-01-01T09:00:00Z in account "
        rf"123456789012, us-east-1 \(event {event_id(1)}\)\.",
        re.ASCII,
    )
    for form, text in texts(alert).items():
        found = sentence.fullmatch(text)
        assert found, f"{form}: {text}"
        assert text.isprintable()
        for value, shown in zip((who, what, where), found.groups(), strict=True):
            read = json.loads(shown) if shown.startswith('"') else shown
            if form == "teams":
                value = re.sub(r"\{(?=\{)", "{ ", value)
            assert read == value or (len(value) > 300 and read.endswith("…"))
    json_of(bodies(alert)).decode()
    assert not set("<>") & set(slack(alert)["text"])
    assert "{{" not in texts(alert)["teams"]


# Insights

INSIGHT = event_id(2)
UNUSUAL = (
    "Unusual activity (ApiErrorRateInsight): IAM CreateUser: 42 AccessDenied errors in 5 minutes, "
    "usually 0.1 an hour, mostly by user John, since 2020-01-01T09:00:00Z in account 123456789012, "
    f"us-east-1 (insight {INSIGHT})."
)
PAGE = f"{CONSOLE}/console/insights/{INSIGHT}"


def insights(*records: Any, console_url: str | None = CONSOLE) -> InsightAlert:
    reports = [incidents_of([record])[0] for record in records]
    return InsightAlert(len(records), reports[0], reports[-1], console_url)


def an_error_rate(state: str = "Start", **changes: Any) -> Any:
    kind = {"insightType": "ApiErrorRateInsight", "errorCode": "AccessDenied"}
    return {**an_insight_record(state, **kind), **changes}


def test_people_read_both_rates_and_the_caller() -> None:
    alert = insights(an_error_rate())
    assert texts(alert) == {
        "slack": f"{UNUSUAL}\n{PAGE}",
        **dict.fromkeys(("teams", "pagerduty", "alertmanager"), UNUSUAL),
    }
    [action] = teams(alert)["attachments"][0]["content"]["actions"]
    assert (action["title"], action["url"]) == ("Open the insight", PAGE)
    plain = insights(an_error_rate(), console_url=None)
    assert slack(plain)["text"] == UNUSUAL


def test_the_end_of_an_insight_resolves_its_alert() -> None:
    start = insights(an_error_rate())
    end = insights(an_error_rate("End", eventTime="2020-01-01T09:05:00Z", eventID=event_id(3)))
    opened, closed = pagerduty(start, "k"), pagerduty(end, "k")
    assert (opened["event_action"], opened["payload"]["severity"]) == ("trigger", "warning")
    assert opened["links"] == [{"href": PAGE, "text": "Open the insight"}]
    assert closed == {"routing_key": "k", "event_action": "resolve", "dedup_key": INSIGHT}
    assert opened["dedup_key"] == INSIGHT
    [opened], [closed] = alertmanager(start), alertmanager(end)
    assert opened["labels"] == closed["labels"]
    assert opened["labels"]["insight_id"] == INSIGHT
    assert opened["startsAt"] == closed["startsAt"] == "2020-01-01T09:00:00Z"
    assert opened["endsAt"] == "2020-01-03T09:00:00Z", "it is open until its end is sent"
    assert closed["endsAt"] == "2020-01-01T09:05:00Z"
    expected = UNUSUAL.replace("activity (", "activity has ended (").replace(
        "since 2020-01-01T09:00:00Z", "from 2020-01-01T09:00:00Z to 2020-01-01T09:05:00Z"
    )
    assert slack(end)["text"] == f"{expected}\n{PAGE}"


def test_a_first_use_has_no_end() -> None:
    alert = insights(a_principal_record())
    assert texts(alert)["teams"].startswith(
        "First use (OpenTrail.NewApi): IAM user John called iam:CreateAccessKey for the first time "
        "in 28 days, at 2020-01-01T09:00:00Z in account 123456789012, us-east-1 (insight "
    )
    assert pagerduty(alert, "k")["event_action"] == "trigger"
    assert "endsAt" not in alertmanager(alert)[0]
    burst = insights(a_principal_record("access-denied", "End", observed=40, usual=2))
    assert pagerduty(burst, "k")["event_action"] == "resolve"


def test_a_digest_of_insights_names_first_and_last() -> None:
    last = an_error_rate(sharedEventID=event_id(9), eventTime="2020-01-01T09:01:00Z")
    text = texts(insights(an_error_rate(), an_error_rate(), last))["teams"]
    assert "(ApiErrorRateInsight) 3 times between 2020-01-01T09:00:00Z and " in text
    assert re.search(rf"; first: IAM .*{INSIGHT}\); last: IAM .*{event_id(9)}\)\.$", text)


@given(who=st.text(min_size=1), what=st.text(min_size=1))
@example("<!channel>", "*x* `z`")
@example("\x1b[31m\r\n", "{{DATE(2020-01-01T09:00:00Z)}}")
@example("arn:aws:iam::1:user/\u202e", "\ud800")
def test_no_value_changes_the_message_of_an_insight(who: str, what: str) -> None:
    record = an_error_rate()
    details = record["insightDetails"]
    details["eventName"] = what
    details["insightContext"]["attributions"][0]["insight"][0]["value"] = who
    alert = insights(record, console_url=None)
    name = r'(?:[\w\-.:/@+=, ]+|"(?:[^"\\]|\\.)*")'
    sentence = re.compile(
        rf"Unusual activity \(ApiErrorRateInsight\): IAM {name}: 42 AccessDenied errors in 5 "
        rf"minutes, usually 0.1 an hour, mostly by {name}, since 2020-01-01T09:00:00Z in account "
        rf"123456789012, us-east-1 \(insight {INSIGHT}\)\.",
        re.ASCII,
    )
    for form, text in texts(alert).items():
        assert sentence.fullmatch(text), f"{form}: {text}"
        assert text.isprintable()
    assert not set("<>") & set(slack(alert)["text"])
    assert "{{" not in texts(alert)["teams"]
