"""Deciding which events a trail takes: reading the fields of a record, and asking a predicate."""

from __future__ import annotations

import json
import timeit
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from opentrail.core.event_record import EventFields, EventRecord
from opentrail.core.selectors import SelectorOwner, predicate_of, read_selection

RECORDS = Path(__file__).parent.parent / "tests" / "data" / "real-records.ndjson"
ROUNDS, EACH = 20, 20
S3 = "AWS::S3::Object"
#: Selections by what they ask for.
SELECTIONS: dict[str, dict[str, Any]] = {
    "writes without KMS": {
        "EventSelectors": [
            {
                "ReadWriteType": "WriteOnly",
                "ExcludeManagementEventSources": ["kms.amazonaws.com"],
            }
        ]
    },
    "250 S3 prefixes": {
        "EventSelectors": [
            {
                "DataResources": [
                    {"Type": S3, "Values": [f"arn:aws:s3:::bucket-{n}/" for n in range(250)]}
                ]
            }
        ]
    },
    "writes to two buckets": {
        "AdvancedEventSelectors": [
            {
                "FieldSelectors": [
                    {"Field": "eventCategory", "Equals": ["Data"]},
                    {"Field": "readOnly", "Equals": ["false"]},
                    {"Field": "resources.type", "Equals": [S3]},
                    {
                        "Field": "resources.ARN",
                        "StartsWith": ["arn:aws:s3:::bucket-1/", "arn:aws:s3:::bucket-2/"],
                    },
                ]
            }
        ]
    },
}


def selectors() -> dict[str, float]:
    """Times each step over real records, all of them as data events of an S3 object."""
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    for number, record in enumerate(records):
        arn = f"arn:aws:s3:::bucket-{number}/in/a.csv"
        record["resources"] = [{"type": S3, "ARN": arn}, {"type": "AWS::S3::Bucket", "ARN": arn}]
    lines = [json.dumps(record, separators=(",", ":")).encode() for record in records]
    figures = {"facts of a record ns": _best(lambda: [EventRecord(line).fields for line in lines])}
    for name, document in SELECTIONS.items():
        matches = predicate_of(read_selection(document, SelectorOwner.TRAIL)).matches
        category = "Management" if name == "writes without KMS" else "Data"
        fields = [EventRecord(line).fields for line in lines]
        figures[f"predicate, {name} ns"] = _best(partial(_ask, partial(matches, category), fields))
    each = {name: value / len(lines) for name, value in figures.items()}
    return {"records": len(lines), **each}


def _ask(matches: Callable[[EventFields], bool], fields: list[EventFields]) -> list[bool]:
    return [matches(each) for each in fields]


def _best(run: Callable[[], object]) -> float:
    """Returns the nanoseconds of a run, the best of the rounds."""
    return min(timeit.repeat(run, number=EACH, repeat=ROUNDS)) / EACH * 1e9


BENCHMARKS = {"Trails: selectors": selectors}
