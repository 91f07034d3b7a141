"""The web console in a real browser: both stories, hostile records, lost sessions."""

from __future__ import annotations

import gzip
import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import Page, expect

from opentrail.capture.in_process.shipping import ServerShipper
from tests.factories import a_record, an_iam_user, event_id, record_bytes
from tests.live.browser import Browser
from tests.live.processes import Opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow]

MARY = (
    "On January 1, 2020 at 9:00 AM UTC, IAM user John created IAM user Mary "
    "through the AWS Management Console"
)
#: Strings that would run, become markup, or hide or reorder their neighbors on a careless page.
HOSTILE = (
    'javascript:window.ran=1//"><img src=x onerror="document.title=\'run\'">'
    "</textarea></title><script>document.title='run'</script>"
    "<iframe srcdoc='<script>top.ran=1</script>'>",
    "{{constructor.constructor('window.ran=1')()}}${window.ran=1}<svg/onload=window.ran=1>",
    "\u202egnp.exe\u2066\u200b\u0000\u001b[31m\u001b]8;;http://192.0.2.1\u0007x",
    "http://192.0.2.1/x?" + "a" * 60_000,
)


def test_mary_has_her_creator_time_and_method(
    console: Browser, server: Opentrail, tmp_path: Path
) -> None:
    record = a_record(
        eventID=event_id(1),
        eventTime="2020-01-01T09:00:00Z",
        eventName="CreateUser",
        userAgent="Mozilla/5.0 (X11; Linux x86_64)",
        userIdentity=an_iam_user("John"),
        requestParameters={"userName": "Mary"},
        responseElements=None,
    )
    (tmp_path / "mary.ndjson").write_text(json.dumps(record))
    done = server.opentrail("import", str(tmp_path / "mary.ndjson"))
    assert done.returncode == 0, done.stderr

    page = console.page
    console.go("events")
    filter_ = page.get_by_role("combobox", name="Filter events")
    filter_.fill("mary")
    filter_.press("Enter")
    answer = page.get_by_role("region", name="Answer")
    expect(answer).to_contain_text(MARY)
    answer.get_by_role("link", name="Open event").click()
    expect(page.get_by_role("heading", name=MARY)).to_be_visible()
    page.keyboard.press("Escape")

    console.go("events")
    filter_.fill("CreateUser")
    page.get_by_role("option", name="eventName=CreateUser 1 event").click()
    page.get_by_role("link", name="IAM user John created IAM user Mary").first.click()
    expect(page.get_by_role("heading", name=MARY)).to_be_visible()


def test_enabling_cloudtrail_begins_its_history(console: Browser, server: Opentrail) -> None:
    page = console.page
    page.get_by_role("link", name="Get Started Now").or_(
        page.get_by_role("button", name="Get Started Now")
    ).first.click()
    page.get_by_label("Trail name").fill("My_Trail")
    expect(page.get_by_label("S3 bucket", exact=True)).to_have_value("my-trail")
    page.get_by_role("button", name="Turn On").click()
    expect(page.get_by_role("heading", name="API activity history")).to_be_visible()
    first = page.get_by_role("row").nth(1)
    expect(first).to_contain_text("CreateTrail")
    expect(first).to_contain_text(
        "IAM user admin created trail My_Trail through the opentrail console"
    )
    trails = server.boto("cloudtrail")
    (trail,) = trails.describe_trails()["trailList"]
    assert (trail["Name"], trail["S3BucketName"]) == ("My_Trail", "my-trail")
    assert trail["IsMultiRegionTrail"]
    assert trail["LogFileValidationEnabled"]
    assert trails.get_trail_status(Name="My_Trail")["IsLogging"]

    assert server.opentrail("trail", "flush", "My_Trail").returncode == 0
    console.go("integrity")
    page.get_by_role("button", name="Verify now").first.click()
    expect(page.get_by_text("All log files are unchanged")).to_be_visible()

    name = _change_a_log_file(server, "my-trail")
    console.go("integrity")
    page.get_by_role("button", name="Verify now").first.click()
    expect(page.get_by_text("Log files were changed or are missing")).to_be_visible()
    expect(page.get_by_text(name).first).to_be_visible()


@pytest.mark.campaign
def test_deleting_a_trail_needs_a_confirmation(console: Browser, server: Opentrail) -> None:
    page, trails = console.page, server.boto("cloudtrail")
    for trail in trails.describe_trails()["trailList"]:
        trails.stop_logging(Name=trail["TrailARN"])
    server.boto("s3").create_bucket(Bucket="ledger")
    arn = trails.create_trail(Name="Ledger", S3BucketName="ledger")["TrailARN"]
    trails.start_logging(Name="Ledger")

    console.go(f"trails/view?name={quote(arn)}")
    page.get_by_role("button", name="Stop logging").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Stop logging of trail Ledger?")
    expect(dialog).to_contain_text("No other trail is logging")
    dialog.get_by_role("button", name="Keep logging").click()
    expect(dialog).to_be_hidden()
    assert trails.get_trail_status(Name="Ledger")["IsLogging"]
    page.get_by_role("button", name="Stop logging").click()
    dialog.get_by_role("button", name="Stop logging").click()
    expect(page.get_by_role("button", name="Start logging")).to_be_visible()
    assert not trails.get_trail_status(Name="Ledger")["IsLogging"]

    for place in ("", "trails", "integrity"):
        console.go(place)
        expect(page.get_by_text("No trail is logging")).to_be_visible()
        said = page.get_by_text("UTC, IAM user admin stopped logging of trail Ledger through")
        expect(said).to_be_visible()
        expect(said).to_contain_text("through the opentrail console")
    page.get_by_role("link", name="Show the event").click()
    expect(page.get_by_role("heading", name="stopped logging").first).to_be_visible()

    console.go(f"trails/view?name={quote(arn)}")
    page.get_by_role("button", name="Delete").click()
    expect(dialog).to_contain_text("Delete trail Ledger?")
    dialog.get_by_role("button", name="Delete trail").click()
    expect(page.get_by_role("heading", name="Trails", level=1)).to_be_visible()
    assert "Ledger" not in [each["Name"] for each in trails.describe_trails()["trailList"]]


def test_a_trail_is_edited_by_the_listed_calls(console: Browser, server: Opentrail) -> None:
    page, trails = console.page, server.boto("cloudtrail")
    server.boto("s3").create_bucket(Bucket="edited")
    settings = {"S3BucketName": "edited", "EnableLogFileValidation": True}
    arn = trails.create_trail(Name="Edited", IsMultiRegionTrail=True, **settings)["TrailARN"]
    console.go(f"trails/view?name={quote(arn)}")
    page.get_by_role("link", name="Edit").click()
    expect(page.get_by_role("heading", name="Edit trail Edited")).to_be_visible()
    save = page.get_by_role("button", name="Save changes")
    expect(save).to_be_disabled()
    page.get_by_label("Log file prefix").fill("prod")
    page.get_by_role("radio", name="Write").check()
    expect(page.get_by_text("events of the last day")).to_be_visible()
    page.get_by_label("API error rate").check()
    for text in ("UpdateTrail: S3KeyPrefix = prod", "PutEventSelectors: management events: Write"):
        expect(page.get_by_text(text)).to_be_visible()
    save.click()
    expect(page.get_by_role("heading", name="Edited", exact=True)).to_be_visible()
    (trail,) = trails.describe_trails(trailNameList=["Edited"])["trailList"]
    assert (trail["S3KeyPrefix"], trail["LogFileValidationEnabled"]) == ("prod", True)
    (selector,) = trails.get_event_selectors(TrailName="Edited")["EventSelectors"]
    assert selector["ReadWriteType"] == "WriteOnly"
    insights = trails.get_insight_selectors(TrailName="Edited")["InsightSelectors"]
    assert [each["InsightType"] for each in insights] == ["ApiErrorRateInsight"]
    trails.delete_trail(Name="Edited")


@pytest.mark.campaign
def test_trail_gets_advanced_event_selectors_by_a_form(console: Browser, server: Opentrail) -> None:
    page, trails, s3 = console.page, server.boto("cloudtrail"), server.boto("s3")
    s3.create_bucket(Bucket="advanced")
    s3.put_object(Bucket="advanced", Key="in/a.csv", Body=b"1,2")
    arn = trails.create_trail(Name="Advanced", S3BucketName="advanced")["TrailARN"]
    trails.put_event_selectors(TrailName=arn, EventSelectors=[{"ReadWriteType": "WriteOnly"}])
    console.go(f"trails/edit?name={quote(arn)}")
    page.get_by_role("radio", name="Advanced").check()
    expect(page.get_by_text("false", exact=True)).to_be_visible()
    page.get_by_role("button", name="Add selector").click()
    page.get_by_role("button", name="Template for selector 2").click()
    page.get_by_role("menuitem", name="S3 data events of one bucket").click()
    save = page.get_by_role("button", name="Save changes")
    save.click()
    expect(page.get_by_text("Give a value.")).to_be_visible()
    values = page.get_by_role("textbox", name="Values")
    expect(values).to_be_focused()
    values.fill("arn:aws:s3:::advanced/\narn:aws:s3:::other/")

    kind = page.get_by_role("combobox", name="Values")
    kind.fill("objects")
    kind.press("Escape")
    expect(page.get_by_text("Value objects for resources.type is invalid.")).to_have_count(1)
    assert any("400" in problem for problem in console.problems)
    console.problems.clear()
    kind.fill("AWS::S3::Object")
    kind.press("Escape")
    left_out = page.get_by_text("Left out:")
    expect(left_out).to_be_visible()
    expect(left_out).not_to_contain_text("PutObject")
    # Below the sticky bar.
    page.evaluate("scrollTo(0, 0)")
    assert console.violations() == []

    save.click()
    expect(page.get_by_role("heading", name="Advanced", exact=True)).to_be_visible()
    assert trails.get_event_selectors(TrailName=arn)["AdvancedEventSelectors"] == [
        {
            "Name": "Management events",
            "FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["Management"]},
                {"Field": "readOnly", "Equals": ["false"]},
            ],
        },
        {
            "Name": "S3 data events of one bucket",
            "FieldSelectors": [
                {"Field": "eventCategory", "Equals": ["Data"]},
                {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
                {
                    "Field": "resources.ARN",
                    "StartsWith": ["arn:aws:s3:::advanced/", "arn:aws:s3:::other/"],
                },
            ],
        },
    ]

    console.go(f"trails/edit?name={quote(arn)}")
    page.get_by_role("radio", name="Basic").check()
    expect(page.get_by_text("Choose Advanced to have these back.")).to_be_visible()
    page.get_by_role("radio", name="Advanced").check()
    expect(values).to_have_value("arn:aws:s3:::advanced/\narn:aws:s3:::other/")
    page.get_by_role("button", name="Remove selector 2").click()
    page.get_by_role("radio", name="Basic").check()
    expect(page.get_by_role("radio", name="Write")).to_be_checked()
    save.click()
    expect(page.get_by_role("heading", name="Advanced", exact=True)).to_be_visible()
    (selector,) = trails.get_event_selectors(TrailName=arn)["EventSelectors"]
    assert (selector["ReadWriteType"], selector["DataResources"]) == ("WriteOnly", [])
    trails.delete_trail(Name=arn)


def test_a_store_is_created_queried_and_deleted(console: Browser, server: Opentrail) -> None:
    page, cloudtrail = console.page, server.boto("cloudtrail")
    console.go("stores")
    page.get_by_role("link", name="Create event data store").first.click()
    page.get_by_label("Name", exact=True).fill("s3-writes")
    page.get_by_label("Retention in days").fill("3653")
    page.get_by_role("radiogroup", name="Termination protection").get_by_label("No").check()
    expect(page.get_by_text("events of the last day")).to_be_visible()
    page.get_by_role("button", name="Template for selector 1").click()
    page.get_by_role("menuitem", name="All S3 data events").click()
    expect(page.get_by_role("heading", name="1. All S3 data events")).to_be_visible()
    expect(page.get_by_text("events of the last day")).to_be_visible()
    page.get_by_role("button", name="Create event data store").click()
    expect(page.get_by_role("heading", name="s3-writes")).to_be_visible()
    arn = page.get_by_text("arn:aws:cloudtrail:").inner_text()
    store = cloudtrail.get_event_data_store(EventDataStore=arn)
    assert (store["Name"], store["RetentionPeriod"]) == ("s3-writes", 3_653)
    assert [each["Name"] for each in store["AdvancedEventSelectors"]] == ["All S3 data events"]

    server.boto("s3").create_bucket(Bucket="stored")
    server.boto("s3").put_object(Bucket="stored", Key="in/a.csv", Body=b"1,2")
    page.get_by_role("link", name="Query").click()
    page.get_by_role("button", name="Run").click()
    table = page.get_by_role("table", name="Result")
    expect(table.get_by_role("cell", name="PutObject").first).to_be_visible()
    expect(table.get_by_role("cell", name="CreateBucket")).to_have_count(0)

    console.go(f"stores/view?arn={quote(arn)}")
    page.get_by_role("button", name="Delete").click()
    page.keyboard.type("s3-writes")
    page.keyboard.press("Enter")
    expect(page.get_by_text("This event data store is deleted")).to_be_visible()
    page.get_by_role("tab", name="Activity of this store").click()
    for said in ("admin created event data store", "admin deleted event data store"):
        expect(page.get_by_text(said)).to_be_visible()
    page.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("button", name="Stop ingestion")).to_be_visible()


def _change_a_log_file(server: Opentrail, bucket: str) -> str:
    """Changes a character of a log file; returns the file's name."""
    s3 = server.boto("s3")
    listed = s3.list_objects_v2(Bucket=bucket)["Contents"]
    key = next(
        each["Key"]
        for each in listed
        if "/CloudTrail/" in each["Key"] and each["Key"].endswith(".json.gz")
    )
    text = gzip.decompress(s3.get_object(Bucket=bucket, Key=key)["Body"].read())
    changed = gzip.compress(text.replace(b"admin", b"nobdy"))
    s3.put_object(Bucket=bucket, Key=key, Body=changed, ContentEncoding="gzip")
    return str(key.rpartition("/")[2])


def test_principals_and_resources_have_their_stories(console: Browser, server: Opentrail) -> None:
    iam, page = server.boto("iam"), console.page
    iam.create_user(UserName="Nora")
    key = iam.create_access_key(UserName="Nora")["AccessKey"]
    nora = server.boto("iam", key["AccessKeyId"], key["SecretAccessKey"])
    nora.create_group(GroupName="crew")
    iam.delete_group(GroupName="crew")

    console.go("principals?arn=arn:aws:iam::123456789012:user/Nora")
    expect(page.get_by_role("heading", name="Nora").first).to_be_visible()
    expect(page.get_by_text("IAM user Nora created IAM group crew").first).to_be_visible()
    expect(page.get_by_text(key["AccessKeyId"]).first).to_be_visible()

    iam.create_role(RoleName="Release", AssumeRolePolicyDocument="{}")
    sts = server.boto("sts", key["AccessKeyId"], key["SecretAccessKey"])
    arn = "arn:aws:iam::123456789012:role/Release"
    issued = sts.assume_role(RoleArn=arn, RoleSessionName="nora-laptop")["Credentials"]
    session = (issued["AccessKeyId"], issued["SecretAccessKey"])
    server.boto("iam", *session, token=issued["SessionToken"]).create_user(UserName="Paula")
    console.go("events?expression=resourceName%3DPaula")
    page.get_by_role(
        "link", name=re.compile(r"role Release \(session nora-laptop\).* created")
    ).click()
    behind = page.get_by_role("region", name="Who was behind it")
    expect(behind.get_by_role("heading", name="Behind it: IAM user Nora")).to_be_visible()
    behind.get_by_role("link", name="IAM user Nora assumed IAM role Release").click()
    expect(page.get_by_role("heading", name="IAM user Nora assumed IAM role")).to_be_visible()

    console.go("resources")
    page.get_by_label("Filter resources").fill("crew")
    crew = page.get_by_role("row").filter(has_text="AWS::IAM::Group")
    expect(crew).to_have_count(1)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Life story")).to_be_visible()
    main = page.get_by_role("main")
    expect(main).to_contain_text("IAM user Nora created IAM group crew")
    expect(main).to_contain_text("IAM user admin deleted IAM group crew")

    main.get_by_role("link", name="Timeline").click()
    expect(page.get_by_role("heading", name="Timeline of crew")).to_be_visible()
    entries = main.get_by_role("listitem")
    expect(entries).to_have_count(2)
    expect(entries.first).to_contain_text("IAM user admin deleted IAM group crew")
    expect(entries.last).to_contain_text("IAM user Nora created IAM group crew")
    page.get_by_label("Name, ARN or access key").fill("nora-laptop")
    page.keyboard.press("Enter")
    entry = main.get_by_role("listitem").filter(has_text="created IAM user Paula")
    expect(entry).to_contain_text("behind it: IAM user Nora")
    entry.get_by_role("link").click()
    expect(page.get_by_role("heading", name="created IAM user Paula")).to_be_visible()


def test_a_principal_page_shows_a_generated_policy(console: Browser, server: Opentrail) -> None:
    iam, page = server.boto("iam"), console.page
    iam.create_user(UserName="Opal")
    key = iam.create_access_key(UserName="Opal")["AccessKey"]
    opal = server.boto("iam", key["AccessKeyId"], key["SecretAccessKey"])
    for name in ("gems", "rocks"):
        opal.create_group(GroupName=name)

    console.go("principals?arn=arn:aws:iam::123456789012:user/Opal")
    page.get_by_role("link", name="Least privilege").click()
    expect(page.get_by_role("heading", name="Least privilege of")).to_be_visible()
    main = page.get_by_role("main")
    expect(main.locator("pre")).to_contain_text('"arn:aws:iam::123456789012:group/gems"')
    page.get_by_text("All", exact=True).click()
    expect(main.locator("pre")).to_contain_text('"Resource": "*"')

    statement = {"Effect": "Allow", "Action": "iam:*", "Resource": "*:group/gems"}
    document = json.dumps({"Version": "2012-10-17", "Statement": statement})
    policy = page.get_by_label("Policy", exact=True)
    policy.fill("{")
    page.get_by_role("button", name="Test on past calls").click()
    expect(main).to_contain_text("This is not JSON")
    policy.fill(document)
    page.get_by_role("button", name="Test on past calls").click()
    result = main.get_by_role("status").filter(has_text="Would be denied")
    expect(result).to_contain_text("iam:CreateGroup on arn:aws:iam::123456789012:group/rocks")
    result.get_by_role("link", name="the last one").click()
    expect(page.get_by_role("heading", name="created IAM group rocks")).to_be_visible()


@pytest.mark.campaign
@pytest.mark.parametrize("number", range(len(HOSTILE)))
def test_record_values_never_run_or_become_markup(
    console: Browser, server: Opentrail, number: int
) -> None:
    text = HOSTILE[number]
    record = _of_text(text, number)
    page = console.page
    page.on("dialog", lambda dialog: console.problems.append(dialog.message))
    console.go("live?expression=")
    expect(page.get_by_text("Connected")).to_be_visible()
    ServerShipper.of_data_dir(server.data_dir).ship(record_bytes(record))
    expect(page.locator(".live-rows [data-row] a").first).to_be_visible()
    _check_harmless(page)

    id_, quoted = record["eventID"], quote(text)
    columns = "name,what,time,user,source,resourceType,resourceName,result,ip,region,key,agent"
    for path, shown in {
        f"events?expression=eventID%3D{id_}&columns={columns}": "[data-row]",
        "": "text=Latest changes",
        f"events/{id_}?tab=record": ".json",
        f"events/{id_}?tab=resources": "h1",
        f"events/{id_}?tab=context": "h1",
        f"events/{id_}?tab=code": "h1",
        f"events/{id_}": "h1",
        f"principals?arn={quoted}": "h1",
        f"resources?name={quoted}": "h1",
        f"timeline?name={quoted}": "h1",
        f"policy?principal={quoted}": "h1",
        f"events?expression={quoted}": "h1",
        f"absent/{quoted}": "text=/Page not found|no such file/",
    }.items():
        console.go(path)
        expect(page.locator(shown).first).to_be_visible()
        expect(page.get_by_text("Loading", exact=False)).to_have_count(0)
        _check_harmless(page)
    # The server refuses searches for which such a string is invalid.
    console.problems[:] = [each for each in console.problems if "status of 4" not in each]


def _of_text(text: str, number: int) -> dict[str, Any]:
    """Returns a record in which everything that a caller chooses is the same string."""
    identity = an_iam_user("Eve")
    return a_record(
        eventID=event_id(100 + number),
        eventTime=f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        eventSource=text,
        eventName=text,
        userAgent=text,
        userIdentity={**identity, "userName": text, "arn": text, "accessKeyId": text},
        requestParameters={"userName": text, text: text, "deep": [{text: [text]}]},
        responseElements={text: text},
        additionalEventData={text: text},
        errorCode=text,
        errorMessage=text,
        sourceIPAddress=text,
        requestID=text,
        resources=[{"type": text, "ARN": text, "accountId": text}],
    )


def _check_harmless(page: Page) -> None:
    """Fails if a string ran, became markup, or has characters that hide or reorder others."""
    assert page.title() != "run"
    assert page.locator("img[src=x], iframe, a[href^='javascript:']").count() == 0
    assert page.evaluate("() => window.ran === undefined")
    shown = page.locator("body").inner_text()
    assert not {"\u202e", "\u2066", "\u200b", "\u0000", "\u001b"} & set(shown)


@pytest.mark.campaign
def test_a_new_link_continues_a_page_without_session(console: Browser, server: Opentrail) -> None:
    page = console.page
    console.go("trails")
    expect(page.get_by_role("heading", name="Trails", level=1).first).to_be_visible()
    page.context.clear_cookies()
    page.reload()
    expect(page.get_by_text("opentrail console").first).to_be_visible()
    console.problems.clear()  # the refused calls
    link = server.opentrail("console").stdout.strip()
    other = page.context.new_page()
    other.goto(link)
    expect(other.get_by_role("heading", name="Dashboard")).to_be_visible()
    page.bring_to_front()
    expect(page.get_by_role("heading", name="Trails", level=1).first).to_be_visible()
    console.problems.clear()


def test_sql_page_shows_results_and_errors(console: Browser, server: Opentrail) -> None:
    record = a_record(eventID=event_id(77), eventName="CreateUser")
    ServerShipper.of_data_dir(server.data_dir).ship(record_bytes(record))
    page = console.page
    console.go("sql")
    statement = page.get_by_role("textbox", name="Statement")
    statement.fill("SELECT eventSource,\n  nosuch FROM event_history")
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_text("line 2:3: Column 'nosuch' cannot be resolved")).to_be_visible()
    selected = "(e) => e.value.slice(e.selectionStart, e.selectionEnd)"
    assert statement.evaluate(selected) == "nosuch"
    assert all("400" in problem for problem in console.problems)
    console.problems.clear()

    statement.fill("SELECT eventName, count(*) AS calls FROM event_history GROUP BY eventName")
    statement.press("Control+Enter")
    table = page.get_by_role("table", name="Result")
    expect(table.get_by_role("cell", name="CreateUser").first).to_be_visible()
    page.reload()
    expect(statement).to_have_value(re.compile("count"))
    page.get_by_role("button", name="Sample queries").click()
    page.get_by_role("option", name="Errors by operation and code").click()
    expect(statement).to_have_value(re.compile("errorCode"))

    # The result of an earlier query.
    page.get_by_role("button", name="Your queries of the last seven days").click()
    page.get_by_role("link", name=re.compile("count")).click()
    expect(statement).to_have_value(re.compile("count"))
    expect(table.get_by_role("cell", name="CreateUser").first).to_be_visible()


def test_sql_query_is_saved_and_opened(console: Browser) -> None:
    page = console.page
    console.go("sql")
    statement = page.get_by_role("textbox", name="Statement")
    statement.fill("SELECT 42 AS answer")
    page.get_by_role("button", name="Saved queries").click()
    page.get_by_role("menuitem", name="Save this query").click()
    page.get_by_label("Save this query as").fill("The answer")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved: The answer")).to_be_visible()
    page.get_by_role("dialog").get_by_role("button", name="Close").last.click()
    statement.fill("SELECT 1")
    page.get_by_role("button", name="Saved queries").click()
    page.get_by_role("menuitem", name="The answer").click()
    expect(statement).to_have_value("SELECT 42 AS answer")
    console.go("events")
    page.get_by_role("button", name="Saved views").click()
    expect(page.get_by_role("menuitem", name="Save this view")).to_be_visible()
    expect(page.get_by_role("menuitem", name="The answer")).to_have_count(0)
