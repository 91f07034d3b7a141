"""AWS's records, by the user, role or account that made the calls."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from opentrail.core.event import as_object
from tests.collection import collected_records

Record = dict[str, Any]


def records_by_principal() -> dict[str, list[Record]]:
    """Returns records by ARN; sessions have the ARN of their role."""
    records: dict[str, list[Record]] = defaultdict(list)
    for _, record in collected_records():
        identity = as_object(record.get("userIdentity"))
        issuer = as_object(as_object(identity.get("sessionContext")).get("sessionIssuer"))
        arn = issuer.get("arn") or identity.get("arn")
        if arn:
            records[arn].append(record)
    return records
