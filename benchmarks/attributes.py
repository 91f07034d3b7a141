"""Making the columns that event history searches by, over records that AWS wrote."""

from __future__ import annotations

import json
import timeit
from pathlib import Path

from opentrail.core.attributes import attributes_of

RECORDS = Path(__file__).parent.parent / "tests" / "data" / "real-records.ndjson"
ROUNDS, EACH = 20, 20


def attributes() -> dict[str, float]:
    """Times `attributes_of`; the best of the rounds, for each record."""
    records = [json.loads(line) for line in RECORDS.read_text().splitlines()]
    rounds = timeit.repeat(
        lambda: [attributes_of(record) for record in records], number=EACH, repeat=ROUNDS
    )
    return {"records": len(records), "attributes us": min(rounds) / EACH / len(records) * 1e6}


BENCHMARKS = {"History: columns of a record": attributes}
