"""The console in a real browser: saved views and proofs of events."""

from __future__ import annotations

import gzip
import json
import re

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import expect

from tests.live.browser import Browser, browser
from tests.live.processes import Opentrail

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]


def test_view_that_one_browser_saved_opens_in_another(console: Browser, server: Opentrail) -> None:
    page = console.page
    console.go("events?expression=eventName%3DCreateUser&last=7d&columns=time,name")
    page.get_by_role("button", name="Saved views").click()
    page.get_by_role("menuitem", name="Save this view").click()
    page.get_by_label("Save this view as").fill("New users")
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_text("Saved: New users")).to_be_visible()

    chromium = page.context.browser
    assert chromium is not None
    other = chromium.new_context().new_page()
    other.goto(server.opentrail("console").stdout.strip())
    expect(other.get_by_role("heading", name="Dashboard")).to_be_visible()
    other.goto(f"{server.console}/console/events")
    other.get_by_role("button", name="Saved views").click()
    other.get_by_role("menuitem", name="New users").click()
    expect(other).to_have_url(
        f"{server.console}/console/events"
        "?expression=eventName%3DCreateUser&last=7d&columns=time%2Cname"
    )
    headers = other.get_by_role("grid", name="Events").get_by_role("columnheader")
    expect(headers.filter(has_text="Event name")).to_have_count(1)
    expect(headers.filter(has_text="What happened")).to_have_count(0)


def test_changed_log_file_ends_an_events_proof(console: Browser, server: Opentrail) -> None:
    s3, iam = server.boto("s3"), server.boto("iam")
    s3.create_bucket(Bucket="proof-logs")
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "cloudtrail.amazonaws.com"},
                "Action": ["s3:GetBucketAcl", "s3:PutObject"],
                "Resource": ["arn:aws:s3:::proof-logs", "arn:aws:s3:::proof-logs/*"],
            }
        ],
    }
    s3.put_bucket_policy(Bucket="proof-logs", Policy=json.dumps(policy))
    trails = server.boto("cloudtrail")
    given = {"S3BucketName": "proof-logs", "EnableLogFileValidation": True}
    trails.create_trail(Name="proof", IsMultiRegionTrail=True, **given)
    trails.start_logging(Name="proof")
    iam.create_user(UserName="Mary")
    (event,) = server.records("name:CreateUser", "resource=Mary")
    path = f"events/{event['eventID']}?tab=proof"

    page = console.page
    console.go(path)
    expect(page.get_by_role("button", name="Proof: Pending")).to_be_visible()
    assert server.opentrail("trail", "flush", "proof").returncode == 0
    console.go(path)
    expect(page.get_by_role("button", name="Proof: Proven")).to_be_visible()
    expect(page.get_by_text("CloudTrail-Digest").first).to_be_visible()

    listed = s3.list_objects_v2(Bucket="proof-logs")["Contents"]
    keys = [each["Key"] for each in listed if "/CloudTrail/" in each["Key"]]
    for key in keys:
        content = gzip.decompress(s3.get_object(Bucket="proof-logs", Key=key)["Body"].read())
        changed = gzip.compress(content.replace(b"Mary", b"Jane"))
        s3.put_object(Bucket="proof-logs", Key=key, Body=changed)
    console.go(path)
    expect(page.get_by_role("button", name="Proof: Broken")).to_be_visible()
    console.go("")
    expect(page.get_by_text("Broken proof: files of trail proof")).to_be_visible()
    page.get_by_role("link", name="The event").first.click()
    expect(page.get_by_role("button", name="Proof: Broken")).to_be_visible()


def test_without_javascript_the_console_names_the_command_line(
    chromium: Chromium, server: Opentrail
) -> None:
    page = chromium.new_context(java_script_enabled=False).new_page()
    page.goto(f"{server.console}/console/plain")
    said = page.locator("noscript p")
    expect(said).to_contain_text("needs JavaScript; in a terminal, opentrail lookup")
    expect(said).to_be_visible()


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (320, "dark")])
def test_these_pages_have_no_violation(
    chromium: Chromium, server: Opentrail, scheme: str, width: int
) -> None:
    server.boto("iam").create_group(GroupName=f"{scheme}-{width}")
    event_id = server.records("name:CreateGroup")[0]["eventID"]
    found: dict[str, list[str]] = {}
    with browser(chromium, server, width, color_scheme=scheme) as console:
        page = console.page

        def look(what: str, within: str = "html") -> None:
            problems = console.violations(within=within)
            if wider := console.overflow():
                problems.append(f"{wider} pixels wider than the window")
            if problems:
                found[what] = problems

        page.goto(f"{server.console}/nothing")
        expect(page.get_by_role("heading", name="This page does not exist")).to_be_visible()
        look("a page of the server")
        console.problems.clear()  # the missing page
        console.open()
        console.go("events")
        page.get_by_role("button", name="Saved views").click()
        page.get_by_role("menuitem", name="Save this view").click()
        expect(page.get_by_label("Save this view as")).to_be_focused()
        # The dialog leaves too little of a half-hidden link to hit, until it is closed.
        look("saved views", within="[role=dialog]")
        console.go(f"events/{event_id}?tab=proof")
        # Tests of trails may have left any state.
        answers = re.compile("is still to come|No trail delivers|unchanged since delivery")
        expect(page.get_by_text(answers).first).to_be_visible()
        look("proof")
        console.check()
    assert found == {}
