"""Files of all events of a search."""

from __future__ import annotations

import csv
import io
import json

from tests.api.v1.test_events import made, with_events
from tests.fakes import asynchronous


@asynchronous
async def test_csv_file_has_all_events_and_no_formulas() -> None:
    hostile = '=HYPERLINK("http://evil.example")'
    agents = [hostile, 'a,"b"', "x\r\n+1", "a;=1+1", " +1", "\uff1d1"]
    browser = await with_events(*(made(n, userAgent=agent) for n, agent in enumerate(agents, 1)))
    answer = await browser.get("export", format="csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert 'filename="events-' in answer.headers["content-disposition"]
    rows = list(csv.DictReader(io.StringIO(answer.body.decode(), newline="")))
    shown = [f"'{hostile}", 'a,"b"', "x\r'\n'+1", "a;'=1+1", "' +1", "'\uff1d1"]
    assert [row["userAgent"] for row in rows] == shown[::-1]
    assert rows[0]["eventTime"] == "2024-01-01T09:00:06Z"


@asynchronous
async def test_json_files_have_the_stored_records() -> None:
    records = [made(n) for n in range(3)]
    browser = await with_events(*records)
    lines = (await browser.get("export", format="ndjson")).body.splitlines()
    assert [json.loads(line) for line in lines] == records[::-1]
    whole = (await browser.get("export", format="json")).json
    assert whole == {"Records": records[::-1]}
    none = await browser.get("export", format="json", expression="name=None")
    assert none.json == {"Records": []}
    wrong = await browser.get("export", format="exe")
    assert "format must be one of" in wrong.json["error"]
