"""Rules against records, and against a plain evaluation of pySigma's parsed rules."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from sigma.rule import SigmaRule

from opentrail.core.errors import UsageError
from opentrail.detections.matching import RuleIndex, compiled, glob
from opentrail.detections.rules import (
    AllOf,
    AnyOf,
    Compared,
    Exists,
    InNetwork,
    Like,
    Matches,
    Negation,
    OneOf,
)
from opentrail.detections.sigma import read_rules
from tests.collection import WHOLE, collected_records, leaves
from tests.detections.reference import fires
from tests.detections.sample import write_samples
from tests.factories import a_record

#: Published rules, next to the records of `tests/collection.py`; not part of this repository.
PUBLISHED = WHOLE.parent / "sigma-aws"
REAL = Path(__file__).parents[1] / "data" / "real-records.ndjson"


def records() -> Iterator[dict[str, Any]]:
    for line in REAL.read_bytes().splitlines():
        yield json.loads(line)
    for _, record in collected_records():
        yield record


def varied_records() -> Iterator[dict[str, Any]]:
    """Yields three records of each kind: of an operation, agent, error code and set of members."""
    kinds: Counter[tuple[Any, ...]] = Counter()
    for record in records():
        what = tuple(record.get(m) for m in ("eventSource", "eventName", "userAgent", "errorCode"))
        kind = (*what, frozenset(path for path, _ in leaves(record)))
        kinds[kind] += 1
        if kinds[kind] <= 3:
            yield record


def differences(folder: Path, events: Iterable[dict[str, Any]]) -> tuple[Counter[str], list[str]]:
    """Returns the matches of each rule, and the differences from the reference."""
    rules = read_rules([folder]).rules
    index = RuleIndex((rule.name, s.condition) for rule in rules for s in rule.selections)
    references = {}
    for file in folder.glob("*.yml"):
        document = yaml.safe_load(file.read_text())
        references[document.get("name") or file.stem] = SigmaRule.from_dict(document)
    matches: Counter[str] = Counter()
    found = []
    for event in events:
        own = Counter(index.matching(event))
        plain = Counter(rule.name for rule in rules if fires(references[rule.name], event))
        matches += own
        if own != plain:
            found.append(f"{event.get('eventID')}: {own - plain} {plain - own}")
    return matches, found


@pytest.mark.slow
def test_rules_match_the_same_records_as_pysigma(tmp_path: Path) -> None:
    matches, found = differences(write_samples(tmp_path / "rules"), list(records())[:300])
    assert found == []
    assert len(matches) >= 30, "most rules have matches, or the test says little"


@pytest.mark.campaign
def test_rules_match_all_kinds_of_records_like_pysigma(tmp_path: Path) -> None:
    matches, found = differences(write_samples(tmp_path / "rules"), varied_records())
    assert found == []
    assert len(matches) >= 30


@pytest.mark.campaign
@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"published rules are not there: {PUBLISHED}")
def test_published_rules_match_the_same_records_as_pysigma() -> None:
    matches, found = differences(PUBLISHED, varied_records())
    assert found == []
    assert sum(matches.values()) > 20


VALUES = st.text("aAbB*.?\\(", max_size=6)


@given(st.lists(st.sampled_from(["*", "?", "a", "b", "B", r"\*", "."]), max_size=7), VALUES)
def test_patterns_match_as_regular_expressions_do(parts: list[str], text: str) -> None:

    regexes = {"*": ".*", "?": ".", r"\*": r"\*"}
    regex = "".join(regexes.get(part) or re.escape(part) for part in parts)
    pattern = "".join(parts)
    assert glob(pattern)(text) == (re.fullmatch(regex, text, re.I | re.S) is not None)
    assert glob(pattern, cased=True)(text) == (re.fullmatch(regex, text, re.S) is not None)


def test_a_long_value_does_not_stop_the_server() -> None:
    pattern = glob("*" + "a*" * 20 + "b")
    assert not pattern("a" * 200_000)
    regex = compiled(Matches("userAgent", "(a+)+$"))
    assert not regex({"userAgent": "a" * 100_000 + "b"})


def test_the_index_finds_only_rules_that_could_match() -> None:
    named = AllOf((OneOf("eventName", ("CreateUser", "DeleteUser")), Compared("x", ">", 1)))
    of_source = OneOf("eventSource", ("IAM.amazonaws.com",))
    index = RuleIndex([("named", named), ("source", of_source)])
    assert index.may_match("CREATEUSER", "")
    assert index.may_match("Other", "iam.amazonaws.com")
    assert not index.may_match("Other", "s3.amazonaws.com")
    record = a_record(eventName="createUser", x="2.5")
    assert sorted(index.matching(record)) == ["named", "source"]
    assert index.matching(a_record(eventName="createUser", x="text")) == ["source"]
    assert RuleIndex([("any", Negation(named))]).may_match("Other", "s3.amazonaws.com")


def test_a_name_of_another_type_matches_no_name() -> None:
    index = RuleIndex([("named", OneOf("eventName", ("CreateUser",)))])
    assert index.matching({"eventName": {"a": 1}, "eventSource": 3}) == []
    assert index.matching({}) == []


def test_alternative_without_name_is_matched_for_every_event() -> None:
    either = AnyOf((OneOf("eventName", ("CreateUser",)), Like("*nmap*", "userAgent")))
    index = RuleIndex([("either", either)])
    assert index.matching({"eventName": "Other", "userAgent": "Nmap/7"}) == ["either"]


def test_a_wrong_regular_expression_is_refused() -> None:
    reason = r"^RE2 does not take the regular expression '\(\?=a\)': invalid perl operator: \(\?=$"
    with pytest.raises(UsageError, match=reason):
        compiled(Matches("userAgent", "(?=a)"))


def test_a_wrong_network_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^'10\.0\.0\.0/33' is not a network such as"):
        RuleIndex([("rule", InNetwork("sourceIPAddress", "10.0.0.0/33"))])


def test_a_string_has_no_fields() -> None:
    index = RuleIndex([("rule", OneOf("userIdentity.type", ("Root",)))])
    assert index.matching({"userIdentity": {"type": "root"}}) == ["rule"]
    assert index.matching({"userIdentity": "Root"}) == []


def test_deep_nesting_hides_nothing() -> None:
    deep: Any = "needle"
    for number in range(20_000):
        deep = [deep] if number % 2 else {"a": deep}
    record = {"eventName": "CreateUser", "requestParameters": {"deep": deep, "name": "x"}}
    index = RuleIndex(
        [
            ("keyword", Like("*needle*")),
            ("field", OneOf("requestParameters.name", ("x",))),
            ("object", Like("*needle*", "requestParameters")),
            ("exists", Exists("requestParameters.deep.a")),
            ("named", OneOf("eventName", ("CreateUser",))),
        ]
    )
    assert sorted(index.matching(record)) == ["exists", "field", "keyword", "named"]
