"""Every page of the web console under axe, in light and dark, wide and narrow."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser as Chromium
from playwright.sync_api import Page, expect

from tests.factories import a_record, an_iam_user, event_id
from tests.live.browser import browser
from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

EVENTS = 80
TRAIL, STORE = "audit", "writes"
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
WIDTHS = (1440, 320)
PAGES = {
    "": "Dashboard",
    "events": "Event history",
    f"events/{event_id(1)}": "IAM user",
    "live": "Live",
    "insights": "Insights",
    "insights/absent": "Insight",
    "detections": "Detections",
    "detections?tab=matches": "Detections",
    "detections?name=root_activity": "Root user made a call",
    "detections?write=root_activity": "Write a rule",
    "principals": "Principals",
    "resources": "Resources",
    "resources?name=user-1": "user-1",
    "timeline?name=user-1": "Timeline of user-1",
    "sql": "SQL",
    "policy?principal=John": "Least privilege of John",
    "trails": "Trails",
    "trails/view?name={arn}": TRAIL,
    "trails/create": "Attributes",
    "trails/edit?name={arn}": "Edit trail",
    "stores": "Event data stores",
    "stores/view?arn={store}": STORE,
    "stores/create": "Create event data store",
    "stores/edit?arn={store}": "Edit event data store",
    "turn-on": "Turn On CloudTrail",
    "activity": "API activity history",
    "integrity": "Integrity",
    "settings": "Settings",
    "absent": "Page not found",
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("console")
    with opentrail_server(folder / "data", command="sandbox") as made:
        _import(made, folder / "events.ndjson")
        made.boto("s3").create_bucket(Bucket=TRAIL)
        trails = made.boto("cloudtrail")
        trails.create_trail(Name=TRAIL, S3BucketName=TRAIL, EnableLogFileValidation=True)
        trails.start_logging(Name=TRAIL)
        trails.create_event_data_store(Name=STORE)
        assert made.opentrail("trail", "flush", TRAIL).returncode == 0
        yield made


def _import(server: Opentrail, file: Path) -> None:
    now = datetime.now(UTC)
    records = [
        a_record(
            eventID=event_id(number),
            eventTime=f"{now - timedelta(minutes=number):%Y-%m-%dT%H:%M:%SZ}",
            eventName="CreateUser" if number % 3 else "DeleteUser",
            userIdentity=an_iam_user("John" if number % 2 else "Mary"),
            requestParameters={"userName": f"user-{number}"},
            errorCode="AccessDenied" if number % 5 == 0 else None,
            responseElements=None,
        )
        for number in range(EVENTS)
    ]
    file.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    done = server.opentrail("import", str(file))
    assert done.returncode == 0, done.stderr


def _arn(server: Opentrail) -> str:
    (trail,) = server.boto("cloudtrail").describe_trails()["trailList"]
    return str(trail["TrailARN"])


def _store(server: Opentrail) -> str:
    stores = server.boto("cloudtrail").list_event_data_stores()["EventDataStores"]
    return str(next(store["EventDataStoreArn"] for store in stores if store["Name"] == STORE))


def _settle(page: Page, scheme: str) -> None:
    """Returns once the page has loaded in the colors of the scheme."""
    expect(page.get_by_text("Loading", exact=False)).to_have_count(0)
    is_dark = "document.body.classList.contains('awsui-dark-mode')"
    page.wait_for_function(f"() => {is_dark} === {str(scheme == 'dark').lower()}")
    # Transitions of colors begin with the next frame.
    page.evaluate(
        "() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))"
    )
    page.wait_for_function("() => document.querySelectorAll('.dimmed').length === 0")


def test_no_page_has_a_violation(chromium: Chromium, server: Opentrail) -> None:
    found: dict[str, list[str]] = {}
    with browser(chromium, server) as console:
        console.open()
        page = console.page
        for number, (path, heading) in enumerate(PAGES.items()):
            console.go(path.format(arn=_arn(server), store=_store(server)))
            # Each page at each width and in each scheme; the four together show the shared parts.
            schemes = SCHEMES if number % 2 else SCHEMES[::-1]
            for width, scheme in zip(WIDTHS, schemes, strict=True):
                page.set_viewport_size({"width": width, "height": 900})
                page.emulate_media(color_scheme=scheme)
                expect(page.get_by_role("heading", name=heading).first).to_be_visible()
                _settle(page, scheme)
                problems = console.violations()
                if wider := console.overflow():
                    problems.append(f"{wider} pixels wider than the window")
                if problems:
                    found[f"{path} {scheme} {width}"] = problems
        page.evaluate("() => document.querySelector('h1').append(document.createElement('img'))")
        assert any(each.startswith("image-alt: <img") for each in console.violations())
    assert found == {}


def test_open_panels_and_dialogs_have_no_violation(chromium: Chromium, server: Opentrail) -> None:
    found: dict[str, list[str]] = {}

    def look(what: str, within: str = "html") -> None:
        for scheme in SCHEMES:
            console.page.emulate_media(color_scheme=scheme)
            _settle(console.page, scheme)
            if problems := console.violations(within=within):
                found[f"{what} {scheme}"] = problems

    with browser(chromium, server) as console:
        console.open()
        page = console.page
        console.go("events")
        page.get_by_role("link", name="IAM user").first.click()
        panel = page.get_by_role("tab", name="Summary")
        expect(panel).to_be_visible()
        look("summary")
        for tab in ("Record", "Context", "Code"):
            page.get_by_role("tab", name=tab).click()
            look(tab, within="[role=tabpanel]")
        page.keyboard.press("Escape")
        expect(panel).to_have_count(0)
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        look("keyboard shortcuts", within="[role=dialog]")
        page.keyboard.press("Escape")
        page.keyboard.press("Control+k")
        page.get_by_role("combobox", name="Search or jump to").fill("user")
        expect(page.get_by_role("option").nth(1)).to_be_visible()
        look("palette", within="dialog")
        page.keyboard.press("Escape")
        console.go("events?expression=user-3")
        expect(page.get_by_role("region", name="Answer")).to_be_visible()
        look("answer")
    assert found == {}


def test_a_page_works_zoomed_and_in_forced_colors(chromium: Chromium, server: Opentrail) -> None:
    with browser(chromium, server, 720, forced_colors="active", device_scale_factor=2) as console:
        console.open()
        for path in ("", "events", "trails", "turn-on"):
            console.go(path)
            expect(console.page.get_by_role("heading").first).to_be_visible()
            _settle(console.page, "light")
            assert console.overflow() == 0, path
            # The system chooses the colors: axe compares the style sheets' colors.
            assert console.violations("color-contrast") == [], path


def test_the_chosen_suggestion_is_marked_in_forced_colors(
    chromium: Chromium, server: Opentrail
) -> None:
    with browser(chromium, server, forced_colors="active") as console:
        console.open()
        page = console.page
        console.go("events?expression=")
        chosen = page.get_by_role("option", selected=True)
        for name in ("Filter events", "Search or jump to"):
            field = page.get_by_role("combobox", name=name)
            if name == "Search or jump to":
                page.keyboard.press("Control+k")
            field.fill("us")
            expect(page.get_by_role("option").first).to_be_visible()
            page.keyboard.press("ArrowDown")
            expect(chosen).to_have_css("outline-style", "solid")
            page.keyboard.press("Escape")
        console.check()
