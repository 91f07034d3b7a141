"""Runs in chDB's own environment: takes Parquet files, then times look-ups."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from chdb import session  # type: ignore[import-not-found]

CONDITIONS = {
    "EventId": "event_id = '{}'",
    "EventName": "event_name = '{}'",
    "EventSource": "event_source = '{}'",
    "ReadOnly": "read_only = ('{}' = 'true')",
    "Username": "username = '{}'",
    "AccessKeyId": "access_key_id = '{}'",
    "ResourceType": "has(resource_types, '{}')",
    "ResourceName": "has(resource_names, '{}')",
}


def main() -> None:
    """Reads paths from its input until it ends; then prints the milliseconds of each look-up."""
    work = Path(sys.argv[1])
    database = session.Session(str(work / "chdb"))
    made = False
    for line in sys.stdin:
        source = f"file('{line.strip()}', Parquet)"
        if not made:
            database.query(
                "CREATE TABLE events ENGINE = MergeTree ORDER BY (event_time, position)"
                " SETTINGS allow_nullable_key = 1"
                f" AS SELECT * FROM {source}"
            )
            made = True
        else:
            database.query(f"INSERT INTO events SELECT * FROM {source}")
        print("taken", flush=True)
    told: dict[str, object] = {}
    for key, values in json.loads((work / "values.json").read_text()).items():
        taken = []
        for value in values:
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            statement = (
                "SELECT position, event_time, event_id, event_name, event_source, read_only,"
                " username, access_key_id, resource_types, resource_names, record FROM events"
                " WHERE account = '123456789012' AND region = 'us-east-1'"
                f" AND category = 'Management' AND {CONDITIONS[key].format(quoted)}"
                " ORDER BY event_time DESC, position DESC LIMIT 50"
            )
            started = time.perf_counter()
            str(database.query(statement, "JSONEachRow"))
            taken.append((time.perf_counter() - started) * 1000)
        told[key] = taken
    size = str(
        database.query(
            "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts"
            " WHERE active AND table = 'events'"
        )
    )
    told["bytes"] = float(size)
    print(json.dumps(told), flush=True)


main()
