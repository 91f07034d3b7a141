"""Photographs the pages of the web console: `make screenshots`.

It starts a sandbox, imports recorded events, makes calls for it to record, and writes a picture of
each page, in light and dark, wide and narrow, into the folder that is given, and the one that the
documentation shows into docs/images. It needs chromium.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from botocore.exceptions import ClientError
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.factories import a_record, an_iam_user, event_id
from tests.live.processes import Opentrail, opentrail_server

PAGES = {
    "dashboard": "",
    "events": "events",
    "event": "events?expression=name%3DCreateUser",
    "live": "live",
    "insights": "insights",
    "insight": "insights/{incident}",
    "principals": "principals",
    "principal": "principals?arn=arn%3Aaws%3Aiam%3A%3A123456789012%3Auser%2FJohn",
    "resources": "resources?name=Mary",
    "timeline": "timeline?name=Mary",
    "policy": "policy?principal=John",
    "trails": "trails",
    "trail": "trails/view?name=audit",
    "create-trail": "trails/create",
    "turn-on": "turn-on",
    "integrity": "integrity",
    "settings": "settings",
}
SIZES = {"wide": (1440, 900), "narrow": (390, 844)}
ROOT = Path(__file__).parent.parent
#: The picture in the documentation, and a digest of the sources of what it shows.
PICTURE = ROOT / "docs/images/console-events.png"
SOURCES = ROOT / "docs/images/console-events.sha256"
RECORDS = ROOT / "tests/data/real-records.ndjson"
_CALLS = 120
_MILLISECONDS = 1_500
#: Seconds in which unusual activity must be found.
_DEADLINE = 180.0


def main() -> None:
    """Writes the pictures."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        with opentrail_server(data / "data", command="sandbox") as server:
            _import(server, _hour(), data / "hour.ndjson")
            _import(server, _month(), data / "month.ndjson")
            _turn_on(server)
            _call(server)
            assert server.opentrail("trail", "flush", "audit").returncode == 0
            _photograph(server, folder, _find_incident(server))
    shutil.copy(folder / "events-light-wide.png", PICTURE)
    SOURCES.write_text(f"{digest_of_sources()}\n")


def digest_of_sources() -> str:
    """Returns a digest of the sources of the page in the documentation's picture."""
    source = ROOT / "console/src"
    parts = ("EventList", "EventPanel", "EventView", "Facets", "TimeChart", "columns")
    shown = (*(f"parts/{part}.tsx" for part in parts), "pages/History.tsx", "app/App.tsx")
    whole = hashlib.sha256()
    for name in (*shown, "app.css"):
        whole.update((source / name).read_bytes())
    return whole.hexdigest()


def _hour() -> list[dict[str, Any]]:
    """Returns recorded events, spread over the last hour."""
    draw, now = random.Random(1), datetime.now(UTC)  # noqa: S311 - the same each time
    records = [json.loads(line) for line in RECORDS.read_text(encoding="utf-8").splitlines()]
    for record in records:
        record["eventTime"] = _stamp(now - timedelta(seconds=draw.randrange(3_600)))
    return records


def _month() -> list[dict[str, Any]]:
    """Returns a month in which instances are launched every second hour, on one day far more."""
    now = datetime.now(UTC)
    moments = [now - timedelta(hours=2 * count, minutes=30) for count in range(28 * 12)]
    moments += [now - timedelta(days=1, seconds=6 * count) for count in range(60)]
    return [
        a_record(
            eventID=event_id(number),
            eventTime=_stamp(moment),
            eventSource="ec2.amazonaws.com",
            eventName="RunInstances",
            userIdentity=an_iam_user("builder"),
            requestParameters={"instanceType": "t3.micro"},
            responseElements=None,
        )
        for number, moment in enumerate(moments)
    ]


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _import(server: Opentrail, records: list[dict[str, Any]], file: Path) -> None:
    file.write_text("\n".join(json.dumps(record) for record in records), encoding="utf-8")
    done = server.opentrail("import", str(file))
    assert done.returncode == 0, done.stderr


def _turn_on(server: Opentrail) -> None:
    server.boto("s3").create_bucket(Bucket="audit")
    trails = server.boto("cloudtrail")
    trails.create_trail(
        Name="audit", S3BucketName="audit", IsMultiRegionTrail=True, EnableLogFileValidation=True
    )
    trails.start_logging(Name="audit")


def _find_incident(server: Opentrail) -> str:
    """Looks for unusual activity in the last days; returns the id of an incident."""
    since = _stamp(datetime.now(UTC) - timedelta(days=3))
    deadline = time.monotonic() + _DEADLINE
    asked = server.opentrail("insights", "scan", "--since", since)
    assert asked.returncode == 0, asked.stderr
    while time.monotonic() < deadline:
        for line in server.opentrail("insights", "--json").stdout.splitlines():
            return str(json.loads(line)["id"])
    raise AssertionError("no unusual activity was found")


def _call(server: Opentrail) -> None:
    """Makes calls of several people and services."""
    draw = random.Random(2)  # noqa: S311 - the same each time
    iam = server.boto("iam")
    iam.create_user(UserName="John")
    key = iam.create_access_key(UserName="John")["AccessKey"]
    john = server.boto("iam", key["AccessKeyId"], key["SecretAccessKey"])
    john.create_user(UserName="Mary")
    role = iam.create_role(RoleName="release", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    sts = server.boto("sts", key["AccessKeyId"], key["SecretAccessKey"])
    session = sts.assume_role(RoleArn=role, RoleSessionName="deploy")["Credentials"]
    release = server.boto(
        "s3",
        session["AccessKeyId"],
        session["SecretAccessKey"],
        token=session["SessionToken"],
    )
    ec2, sqs, s3 = (server.boto(name) for name in ("ec2", "sqs", "s3"))
    choices: list[Any] = [
        lambda n: john.get_user(UserName=f"absent-{n}"),
        lambda n: john.create_role(RoleName=f"role-{n}", AssumeRolePolicyDocument="{}"),
        lambda _: ec2.describe_instances(),
        lambda _: ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1),
        lambda n: sqs.create_queue(QueueName=f"queue-{n}"),
        lambda n: s3.create_bucket(Bucket=f"bucket-{n}"),
        lambda n: release.create_bucket(Bucket=f"release-{n}"),
        lambda _: iam.list_users(),
    ]
    for number in range(_CALLS):
        try:
            draw.choice(choices)(number)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "NoSuchEntity"  # noqa: PT017


def _photograph(server: Opentrail, folder: Path, incident: str) -> None:
    program = shutil.which("chromium")
    if program is None:
        sys.exit("make screenshots needs chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=program, args=flags)
        for theme in ("light", "dark"):
            for size, (width, height) in SIZES.items():
                context = chromium.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme="dark" if theme == "dark" else "light",
                )
                page = context.new_page()
                page.goto(server.opentrail("console").stdout.strip())
                page.wait_for_timeout(_MILLISECONDS)
                for name, path in PAGES.items():
                    page.goto(f"{server.console}/console/{path.format(incident=incident)}")
                    page.wait_for_timeout(_MILLISECONDS)
                    if name == "event":
                        page.get_by_text("created IAM user Mary").first.click()
                        page.wait_for_timeout(_MILLISECONDS)
                    page.screenshot(path=str(folder / f"{name}-{theme}-{size}.png"))
                context.close()
        chromium.close()
    print(f"{len(list(folder.glob('*.png')))} pictures in {folder}")


if __name__ == "__main__":
    main()
