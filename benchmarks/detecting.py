"""What 500 rules cost: in one thread by themselves, and those who record 2,000 events a second."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

from benchmarks.history import offered
from benchmarks.processes import cpu_seconds, family, free_port
from benchmarks.records import Multiplier
from benchmarks.servers import Server, opentrail
from opentrail.detections.matching import RuleIndex, compiled
from opentrail.detections.rules import (
    AllOf,
    AnyOf,
    Condition,
    DetectionRule,
    Like,
    Matches,
    Negation,
    OneOf,
)

Figures = dict[str, float]
RULES, RATE, SECONDS, ROUNDS = 500, 2_000, 20, 3
#: Rules that ask for neither a name nor a source, so that each event is compared with them.
UNNAMED = 38
_EVENTS = 4_000


def rules(names: list[str], sources: list[str]) -> Iterator[DetectionRule]:
    """Yields rules as published ones are, by variation: most ask for names, some for a source."""
    for number in range(RULES):
        name, source = names[number % len(names)], sources[number % len(sources)]
        agent = Like(f"*tool-{number}*", "userAgent")
        filtered = Negation(Like(f"*:role/trusted-{number}*", "userIdentity.arn"))
        condition: Condition
        if number < UNNAMED:
            regex = Matches("userIdentity.arn", f":assumed-role/team-{number}/.+")
            condition = (agent, regex)[number % 2]
        elif number % 10 == 0:
            condition = AllOf((OneOf("eventSource", (source,)), agent))
        else:
            others = tuple(f"{name}{suffix}" for suffix in ("", "V2", f"Of{number}"))
            wanted = AnyOf((agent, Like(f"*secret-{number}*", "requestParameters")))
            condition = AllOf((OneOf("eventName", others), wanted, filtered))
        yield DetectionRule(f"rule-{number}", f"Rule {number}", condition=condition)


def _rules_for(records: list[dict[str, Any]]) -> list[DetectionRule]:
    names = sorted({record["eventName"] for record in records})
    return list(rules(names, sorted({record["eventSource"] for record in records})))


def _records() -> list[dict[str, Any]]:
    made = Multiplier(3_600, seed=3)
    return [json.loads(raw) for raw in made.records(0, _EVENTS, _EVENTS)]


def matching() -> Figures:
    """Matches events by the index, and with each rule for each event."""
    records = _records()
    every = _rules_for(records)
    conditions = [(rule.name, rule.condition) for rule in every if rule.condition is not None]
    index = RuleIndex(conditions)
    tests = [compiled(condition) for _, condition in conditions]
    started = time.process_time()
    for record in records:
        index.matching(record)
    by_index = (time.process_time() - started) / len(records)
    part = records[: _EVENTS // 20]
    started = time.process_time()
    for record in part:
        for test in tests:
            test(record)
    by_rule = (time.process_time() - started) / len(part)
    return {
        "500 rules by index, us an event": by_index * 1e6,
        "500 rules one by one, us an event": by_rule * 1e6,
        "by index / one by one, ratio": by_index / by_rule,
    }


def detecting() -> Figures:
    """Offers records to two servers in turn; one has the rules."""
    every = _rules_for(_records())
    cores: dict[str, list[float]] = {"without": [], "with": []}
    late: dict[str, list[float]] = {"without": [], "with": []}
    upstream = free_port()  # records are sent to the console's port; nothing is called
    for _ in range(ROUNDS):
        for name in cores:
            with opentrail(upstream, "--insights", "off") as server:
                if name == "with":
                    _enable(server, every)
                before = _cpu(server)
                seen = offered(name, server, RATE, SECONDS)
                cores[name].append((_cpu(server) - before) / SECONDS)
                late[name].append(seen[f"{name}: durable to visible p99 ms"])
    figures = {f"{name} rules: cores": median(values) for name, values in cores.items()}
    for name, values in late.items():
        figures[f"{name} rules: visible p99 ms"] = median(values)
    figures["500 rules at 2,000 events/s: cores"] = median(cores["with"]) - median(cores["without"])
    ratio = median(late["with"]) / median(late["without"])
    return {**figures, "with rules / without, visible p99 ratio": ratio}


def _cpu(server: Server) -> float:
    return sum(cpu_seconds(pid) for pid in family(server.process.pid))


def _enable(server: Server, every: list[DetectionRule]) -> None:
    token = json.loads((Path(server.data) / "server.json").read_text())["token"]
    for rule in every:
        request = urllib.request.Request(
            f"{server.console}/api/v1/detections",
            json.dumps({"rule": msgspec.to_builtins(rule)}).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()


BENCHMARKS = {
    "Detections: 500 rules in one thread": matching,
    "Detections: 500 rules at 2,000 events a second": detecting,
}
