"""Decisions on requests by IAM policies, in one process and thread."""

from __future__ import annotations

import json
import statistics
import time
from typing import Any

from opentrail.core.policies import AccessRequest, Caller, PolicyKind, decide, parse_policy

ROUNDS, EACH = 200, 50
_ACCOUNT = "123456789012"
_OPERATIONS = (
    *("GetTrailStatus", "DescribeTrails", "LookupEvents", "CreateTrail", "DeleteTrail"),
    *("PutEventSelectors", "Start*", "Get*", "ListTags", "AddTags"),
)


def policies() -> dict[str, float]:
    """Times decisions by policies of 50 statements, of which every fifth denies."""
    everything = [_statement(number, _OPERATIONS[number % 10]) for number in range(50)]
    matching = [_statement(number, "GetTrailStatus") for number in range(50)]
    figures = {
        "decision, 50 statements, p50 us": _median(everything),
        "decision, 50 statements about the action, p50 us": _median(matching),
    }
    started = time.perf_counter_ns()
    _parsed(everything)
    return {**figures, "parse 50 statements us": (time.perf_counter_ns() - started) / 1000}


def _statement(number: int, operation: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "Sid": f"s{number}",
        "Effect": "Allow" if number % 5 else "Deny",
        "Action": [f"cloudtrail:{operation}", "s3:Get*", "kms:Decrypt"],
        "Resource": [
            f"arn:aws:cloudtrail:*:{_ACCOUNT}:trail/team-{number}-*",
            f"arn:aws:s3:::bucket-{number}/*",
        ],
    }
    if number % 3 == 0:
        made["Condition"] = {
            "StringEquals": {"aws:PrincipalTag/team": f"team-{number}"},
            "IpAddress": {"aws:SourceIp": ["10.0.0.0/8", "192.168.0.0/16"]},
        }
    return made


def _parsed(statements: list[dict[str, Any]]) -> Any:
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    return parse_policy(document, PolicyKind.IDENTITY, "benchmark")


def _median(statements: list[dict[str, Any]]) -> float:
    policy = _parsed(statements)
    context = {
        "aws:sourceip": ("10.1.2.3",),
        "aws:principaltag/team": ("team-48",),
        "aws:username": ("ann",),
    }
    caller = Caller(_ACCOUNT, f"arn:aws:iam::{_ACCOUNT}:user/ann")
    requests = [
        AccessRequest(
            caller,
            "cloudtrail:GetTrailStatus",
            f"arn:aws:cloudtrail:eu-west-1:{_ACCOUNT}:trail/team-{number}-main",
            _ACCOUNT,
            context,
        )
        for number in range(EACH)
    ]
    found: list[int] = []
    clock = time.perf_counter_ns
    for _ in range(ROUNDS):
        for request in requests:
            started = clock()
            decide(request, [policy], None)
            found.append(clock() - started)
    return statistics.median(found) / 1000


BENCHMARKS = {"Access: decision by policies": policies}
