"""Insights about principals in a real server, with imported history."""

from __future__ import annotations

import gzip
import itertools
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from opentrail.capture.in_process.shipping import ServerShipper
from opentrail.core.event import format_time
from tests.factories import a_record, an_iam_user, event_id, record_bytes
from tests.live.processes import Opentrail, eventually, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

NOBODY = "http://127.0.0.1:9"
#: Maximum seconds for a server to learn 20 events and find an incident.
_DEADLINE = 300.0


def import_weeks(server: Opentrail, folder: Path) -> None:
    now = datetime.now(UTC)
    records = [
        a_record(
            eventID=event_id(days),
            eventTime=format_time(now - timedelta(days=days)),
            userIdentity=an_iam_user("John"),
        )
        for days in range(1, 21)
    ]
    folder.mkdir()
    (folder / "one.json.gz").write_bytes(gzip.compress(json.dumps({"Records": records}).encode()))
    done = server.opentrail("import", str(folder))
    assert done.returncode == 0, done.stderr


def test_a_first_use_is_found_listed_and_shown(tmp_path: Path) -> None:
    flags = ("--upstream", NOBODY, "--insights-types", "new-api")
    with opentrail_server(tmp_path / "data", *flags) as server:
        import_weeks(server, tmp_path / "logs")
        shipper = ServerShipper.of_data_dir(tmp_path / "data")
        numbers = itertools.count(101)

        def listed() -> str:
            """Calls a new operation; calls before the baseline is complete are not new."""
            number = next(numbers)
            call = a_record(
                eventID=event_id(number),
                eventTime=format_time(datetime.now(UTC)),
                eventName=f"Delete{number}",
                userIdentity=an_iam_user("John"),
            )
            shipper.ship(record_bytes(call))
            return server.opentrail("insights", "--json").stdout

        found = eventually(listed, "an incident", _DEADLINE)
        incident = json.loads(found.splitlines()[0])  # there may be two by now
        called = incident["extension"]["value"]
        assert (
            incident["sentence"] == f"IAM user John called {called} for the first time in 20 days"
        )
        shown = server.opentrail("insights", "show", incident["id"], "--events", "--json").stdout
        assert json.loads(shown)["eventName"] == called.removeprefix("iam:")
