"""Who makes the calls of a workload: usual principals of each key and culprits of incidents."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from benchmarks.insights.incidents import Incident
    from benchmarks.insights.workload import Workload

ACCOUNT = "111122223333"
#: Principals of an account, of which each key has one to eight.
_PEOPLE = 40
_ROLES = 60
_AGENTS = (
    "aws-cli/2.15.30 md/awscrt#0.19.19 lang/python#3.11.8",
    "Boto3/1.34.69 md/Botocore#1.34.69 lang/python#3.12.2",
    "aws-sdk-go-v2/1.26.0 os/linux lang/go#1.22.1",
    "APN/1.0 HashiCorp/1.0 Terraform/1.7.5",
    "console.amazonaws.com",
    "aws-sdk-java/2.25.16 Linux/5.10 OpenJDK_64-Bit_Server_VM/17",
)
#: Share of an incident's additional calls that its culprit makes.
CULPRIT_SHARE = 0.9


@dataclass(frozen=True)
class Principal:
    """A caller; ARNs of assumed roles are without the session, as in attributions."""

    arn: str
    agent: str


@dataclass(frozen=True)
class Call:
    """One call of a key in one minute."""

    minute: int
    identity_arn: str
    user_agent: str
    error_code: str | None


def usual(seed: int, key: int) -> list[Principal]:
    """Returns the one to eight usual principals of a key, the most active first."""
    rng = np.random.default_rng((seed, key, 1))
    number = min(8, 1 + int(rng.geometric(0.4)))
    drawn = rng.choice(_PEOPLE + _ROLES, number, replace=False)
    return [Principal(_arn(int(one)), _AGENTS[int(one) % len(_AGENTS)]) for one in drawn]


def _arn(number: int) -> str:
    if number < _PEOPLE:
        return f"arn:aws:iam::{ACCOUNT}:user/user-{number:02}"
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/role-{number - _PEOPLE:02}"


def draw_culprit(rng: np.random.Generator, seed: int, key: int, factor: float) -> str:
    """Draws the culprit of an incident: doubled traffic is the most active principal's.

    Otherwise it is in half of the cases one of the usual principals, else a new one.
    """
    known = usual(seed, key)
    if factor < 3:
        return known[0].arn
    if rng.random() < 0.5:
        return known[int(rng.integers(0, len(known)))].arn
    return f"arn:aws:sts::{ACCOUNT}:assumed-role/new-{int(rng.integers(0, 10**6)):06}"


def shares(number: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Returns Zipf's shares of `number` principals."""
    weights = 1 / np.arange(1, number + 1)
    return np.asarray(weights / weights.sum())


def events_of(workload: Workload, key: int, first: int, last: int) -> Iterator[Call]:
    """Yields the calls of a key from minute `first` up to, excluding, `last`.

    Each minute has as many as its count, and the same ones whatever the range is.
    """
    known = usual(workload.seed, key)
    labels = [label for label in workload.labels if label.key == key and label.up]
    for minute in (first + np.flatnonzero(workload.counts[key, first:last])).tolist():
        rng = np.random.default_rng((workload.seed, key, minute, 2))
        count = int(workload.counts[key, minute])
        label = next((one for one in labels if one.start <= minute < one.end), None)
        added = min(count, int(label.change[minute - label.start])) if label else 0
        from_culprit = math.ceil(added * CULPRIT_SHARE)
        if label is not None:
            yield from _culprit_calls(workload, label, minute, from_culprit, known)
        error = workload.names[key].error_code
        numbers = rng.multinomial(count - from_culprit, shares(len(known)))
        for principal, number in zip(known, numbers.tolist(), strict=True):
            for _ in range(number):
                code = error or ("AccessDenied" if rng.random() < 0.02 else None)
                yield Call(minute, principal.arn, principal.agent, code)


def _culprit_calls(
    workload: Workload, label: Incident, minute: int, number: int, known: list[Principal]
) -> Iterator[Call]:
    """Yields a culprit's calls; half of the calls of a new principal fail."""
    assert label.culprit is not None
    agents = [one.agent for one in known if one.arn == label.culprit]
    error = workload.names[label.key].error_code
    for place in range(number):
        code = error or (None if agents or place % 2 else "AccessDenied")
        yield Call(minute, label.culprit, agents[0] if agents else _AGENTS[0], code)
