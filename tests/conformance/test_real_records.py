"""Rebuilds the calls behind real records and records them again: the form must be AWS's own."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest

from opentrail.capture.record.assemble import Assembler
from opentrail.wire.message import Response
from opentrail.wire.routing import Route
from tests.collection import at_least, collected_records, needs_the_whole
from tests.conformance.rebuild import RebuildError, Reverse, operation_of, rebuild
from tests.conformance.rebuild_answer import error_answer, good_answer
from tests.conformance.rebuild_values import HIDDEN_TEXTS, SECRET
from tests.factories import (
    RECORD_ORDER,
    an_exchange,
    an_identity,
    real_records,
)

#: Sources with unedited records. The others were trimmed or written by hand: they count only for
#: names without an unedited record, and only by their parameters and answers.
UNTOUCHED = (
    "invictus-aws_dataset",
    "otrf-security-datasets",
    "sans504-s3-ransomware",
    "stratus-red-team",
    "traildiscover-suzaku",
)
_SECOND_COMMA = re.compile(r"^([A-Z][a-z]{2} \d+, \d{4}),(?= \d)")
#: Enough records of one name in one shape.
_ALIKE = 3
#: (eventSource's label, eventName) -> the reason for the lasting difference from AWS's record.
EXCEPTED = {
    ("application-insights", "ListApplications"): "AWS recorded this read's answer in 2021",
    ("athena", "StartQueryExecution"): "AWS showed the query in 2021; since, ***OMITTED***",
    ("logs", "DescribeLogGroups"): "one of 4 comes from the console, without apiVersion",
    ("macie2", "ListMembers"): "a number of the query string stays text here, and only here",
    ("s3", "DeleteObjects"): "the only record is made by hand: it has the key of one object",
    ("sts", "GetCallerIdentity"): "AWS recorded its answer in 2021, and no longer in 2023",
}
#: The same for open errors in `capture`; fixing one removes its row.
PENDING: dict[tuple[str, str], str] = {}
#: Members in which we differ on purpose, whatever the call: AWS shows them; the model and opentrail
#: treat them as secrets.
ON_PURPOSE = {"sessionToken", "x-amz-server-side-encryption-context"}


@dataclass
class Comparison:
    """The comparison of one record."""

    differences: list[str] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)


def compared(record: Mapping[str, Any], whole: bool = True) -> Comparison:
    """Returns the differences between our record of a real record's call and that record.

    Not `whole`: parameters and answer alone.

    Raises:
        RebuildError: the record is too incomplete for a call.
    """
    rebuilt = rebuild(record)
    exchange = an_exchange(rebuilt.request)
    route = exchange.route
    found = Comparison(unknown=rebuilt.unknown)
    if (route.service, route.operation) != (rebuilt.service, rebuilt.operation):
        found.differences.append(
            f"routed to {route.service and route.service.name}.{route.operation}"
        )
        return found
    elements = record.get("responseElements")
    unknown_elements: set[str] = set()
    told = _told_beyond(record)
    if record.get("errorCode"):
        code = wire_code(record, route)
        exchange.response = error_answer(route, code, record.get("errorMessage"))
    elif elements and rebuilt.service.name == "s3":
        exchange.response = Response(200, {name: str(text) for name, text in elements.items()})
    elif elements:
        assert route.model is not None
        output = given_output(record, route.model.output_shape, unknown_elements)
        exchange.response = good_answer(route, {**told, **output})
    else:
        exchange.response = good_answer(route, told)
    assembled = Assembler(lambda key: an_identity(key=key)).assemble(exchange)
    record_bytes = assembled.entry.record
    if SECRET.encode() in record_bytes:
        found.differences.append("shows what AWS hides")
    found.unknown |= {f"responseElements.{path}" for path in unknown_elements}
    recorded = json.loads(record_bytes)
    for member, skipped in (
        ("requestParameters", rebuilt.unknown),
        ("responseElements", unknown_elements),
    ):
        paths = {f"{member}.{path}" if path else member for path in skipped}
        if member == "responseElements" and _is_old_read(record):
            continue
        published, ours = record.get(member) or {}, recorded[member] or {}
        found.differences += differences(published, ours, member, paths)
    if whole:
        found.differences += _other_differences(record, recorded)
    return found


def _told_beyond(record: Mapping[str, Any]) -> dict[str, Any]:
    """Returns members of KMS's answers that records show only as `resources`."""
    if record["eventName"] in ("Decrypt", "Encrypt", "GenerateDataKey") and record.get("resources"):
        return {"KeyId": record["resources"][0]["ARN"]}
    return {}


def given_output(record: Mapping[str, Any], shape: Any, unknown: set[str]) -> dict[str, Any]:
    """Returns the answer's elements by the model's names, as far as the record has them."""
    elements = record["responseElements"]
    if record["eventSource"] == "ec2.amazonaws.com":
        return dict(elements)
    if shape is None:
        unknown.update(elements)
        return {}
    names = {name.casefold() for name in shape.members}
    only = list(shape.members.items())
    if len(only) == 1 and not names & {key.casefold() for key in elements}:
        name, member = only[0]  # AWS leaves the wrapper out
        if member.type_name == "structure":
            return {name: Reverse(unknown).structure(member, elements, "")}
    return Reverse(unknown).structure(shape, elements, "")


def wire_code(record: Mapping[str, Any], route: Route) -> str:
    """Returns an error's code on the wire: in XML its own, in JSON and CBOR the shape's name."""
    code = str(record["errorCode"])
    if route.protocol == "ec2":
        return code.removeprefix("Client.")
    if route.protocol not in ("query", "rest-xml"):
        return "AccessDeniedException" if code == "AccessDenied" else code
    for shape in route.service.model.error_shapes if route.service else ():
        if shape.name == code:
            return str(shape.metadata.get("error", {}).get("code", code))
    return code


def _is_old_read(record: Mapping[str, Any]) -> bool:
    """Until 2021 a few services recorded the answers of reads."""
    return bool(record.get("readOnly", True)) and record["eventVersion"] < "1.08"


def _other_differences(real: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    out = [
        f"{member}: {real[member]!r}, ours {ours.get(member)!r}"
        for member in ("errorCode", "readOnly", "eventCategory", "managementEvent", "apiVersion")
        if member in real and real[member] != ours.get(member)
    ]
    if "apiVersion" in ours and "apiVersion" not in real:
        out.append(f"apiVersion: absent, ours {ours['apiVersion']!r}")
    theirs, own = _listed(real), _listed(ours)
    if theirs != own:
        out.append(f"resources: {theirs}, ours {own}")
    return out + _order(real, ours)


def _listed(record: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Returns members and types of `resources`; the ARNs may be anonymised."""
    found = record.get("resources") or []
    return sorted((tuple(sorted(item)), item.get("type", "")) for item in found)


def _order(real: Mapping[str, Any], ours: Mapping[str, Any]) -> list[str]:
    """Compares the order of members, except `eventCategory`, which AWS writes in two places."""
    if list(real)[:3] != list(RECORD_ORDER[:3]) or real["eventVersion"] < "1.08":
        return []  # the publisher sorted the members, or AWS had another order then
    both = [name for name in real if name in ours and name != "eventCategory"]
    return [] if both == [name for name in ours if name in both] else [f"order: {both}"]


def differences(real: Any, ours: Any, path: str, skipped: Iterable[str]) -> list[str]:
    """Returns the places where two values differ, the real one first."""
    if path in skipped or path.rpartition(".")[2] in ON_PURPOSE or path.endswith(".Host"):
        return []
    if isinstance(real, dict) and isinstance(ours, dict):
        return _in_objects(real, ours, path, skipped)
    if isinstance(real, list) and isinstance(ours, list):
        if len(real) != len(ours):
            return [f"{path}: {len(real)} items, ours {len(ours)}"]
        pairs = zip(real, ours, strict=True)
        return [d for r, o in pairs for d in differences(r, o, f"{path}[]", skipped)]
    if real == ours and isinstance(real, bool) == isinstance(ours, bool):
        return []
    if isinstance(real, str) and isinstance(ours, str) and _alike(real, ours):
        return []
    return [f"{path}: {_short(real)}, ours {_short(ours)}"]


def _alike(real: str, ours: str) -> bool:
    """Hidden in any wording; a time with or without its second comma (AWS's hosts differ)."""
    if real in HIDDEN_TEXTS:
        return ours in HIDDEN_TEXTS
    return _SECOND_COMMA.sub(r"\1", real) == _SECOND_COMMA.sub(r"\1", ours)


def _in_objects(
    real: Mapping[str, Any], ours: Mapping[str, Any], path: str, skipped: Iterable[str]
) -> list[str]:
    out = []
    for name, value in real.items():
        where = f"{path}.{name}"
        if name in ours:
            out += differences(value, ours[name], where, skipped)
        elif where not in skipped:
            out.append(f"{where}: missing, {_short(value)}")
    out += [f"{path}.{name}: added, {_short(ours[name])}" for name in ours if name not in real]
    return out


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:120]


@dataclass
class Results:
    """All comparisons, by (eventSource, eventName)."""

    equal: set[tuple[str, str]] = field(default_factory=set)
    different: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    impossible: dict[tuple[str, str], str] = field(default_factory=dict)
    unknown: dict[tuple[str, str], set[str]] = field(default_factory=lambda: defaultdict(set))


def results_of(records: Iterable[tuple[str, Mapping[str, Any]]]) -> Results:
    """Compares some records of each name and shape; untouched ones if there are any."""
    chosen: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    seen: dict[str, int] = defaultdict(int)
    edited: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for source, record in records:
        if not record.get("eventSource") or operation_of(record) is None:
            continue
        name = record["eventSource"], record["eventName"]
        if source not in UNTOUCHED:
            edited[name].append(record)
            continue
        alike = json.dumps([*name, _shape(record)], default=str)
        seen[alike] += 1
        if seen[alike] <= _ALIKE:
            chosen.setdefault(name, []).append(record)
    results = Results()
    for name, of_name in {**edited, **chosen}.items():
        _settle(name, of_name, results, untouched=name in chosen)
    return results


def _shape(record: Mapping[str, Any]) -> Any:
    def of(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: of(v) for k, v in sorted(value.items())}
        return [of(value[0])] if isinstance(value, list) and value else type(value).__name__

    members = ("requestParameters", "responseElements", "resources", "errorCode")
    return [of(record.get(m)) for m in members] + [record.get("errorCode"), list(record)]


def _settle(
    name: tuple[str, str], records: list[Mapping[str, Any]], results: Results, untouched: bool
) -> None:
    """Compares the records of a name: all untouched ones must be equal, or one edited one."""
    found: list[Comparison] = []
    for record in records:
        try:
            found.append(compared(record, whole=untouched))
        except RebuildError as reason:
            results.impossible[name] = str(reason)
    if not found:
        return
    results.impossible.pop(name, None)
    results.unknown[name] = set().union(*(one.unknown for one in found))
    several = [one.differences for one in found]
    if (not any(several)) if untouched else (not all(several)):
        results.equal.add(name)
    else:
        results.different[name] = [text for texts in several for text in texts]


def _labelled(names: Iterable[tuple[str, str]]) -> set[tuple[str, str]]:
    return {(source.partition(".")[0], name) for source, name in names}


@cache
def collected_results() -> Results:
    """Returns the results of the collection; the whole one takes about three seconds."""
    return results_of(collected_records())


def _told(results: Results) -> str:
    lines = [
        f"{source} {name}: {'; '.join(sorted(set(texts))[:4])}"
        for (source, name), texts in sorted(results.different.items())
        if (source.partition(".")[0], name) not in EXCEPTED.keys() | PENDING.keys()
    ]
    return "\n".join(lines)


@pytest.mark.slow
def test_real_calls_are_recorded_as_by_aws() -> None:
    results = collected_results()
    surprising = _labelled(results.different) - EXCEPTED.keys() - PENDING.keys()
    assert not surprising, _told(results)


@pytest.mark.slow
@needs_the_whole
def test_no_row_of_exceptions_has_outlived_its_reason() -> None:
    results = collected_results()
    assert (EXCEPTED.keys() | PENDING.keys()) - _labelled(results.different) == set()


@pytest.mark.slow
def test_most_names_of_the_collection_can_be_rebuilt() -> None:
    results = collected_results()
    rebuilt = len(results.equal) + len(results.different)
    assert rebuilt >= at_least(300, 170)
    assert len(results.impossible) <= rebuilt * 0.05
    assert len(EXCEPTED) <= rebuilt * 0.05


@pytest.mark.slow
def test_models_know_most_members() -> None:
    """A name is found regardless of case, so a wrong casing of ours is not among it."""
    unknown = collected_results().unknown
    assert sum(len(paths) for paths in unknown.values()) <= 40


@pytest.mark.slow
def test_committed_sample_is_recorded_as_aws_records_it() -> None:
    results = results_of((_publisher(record), record) for record in real_records())
    surprising = _labelled(results.different) - EXCEPTED.keys() - PENDING.keys()
    assert not surprising, _told(results)
    assert len(results.equal) >= 40


def _publisher(record: Mapping[str, Any]) -> str:
    """Recognizes the sample's sources by the order of members (`data/SOURCES.md`)."""
    if list(record) == sorted(record):
        return "stratus-red-team"
    return "invictus-aws_dataset" if record.get("recipientAccountId") == "123837392027" else "c7n"


def test_a_wrong_casing_would_be_found() -> None:
    real = {"a": {"vpcId": "1", "list": [{"x": True}]}, "t": "Jul 1, 2023 1:02:03 AM"}
    same = {"a": {"vpcId": "1", "list": [{"x": True}]}, "t": "Jul 1, 2023, 1:02:03 AM"}
    assert differences(real, same, "p", ()) == []
    wrong = {"a": {"vPCId": "1", "list": [{"x": 1}]}, "t": "Jul 1, 2023 1:02:03 AM"}
    assert differences(real, wrong, "p", ()) == [
        'p.a.vpcId: missing, "1"',
        "p.a.list[].x: true, ours 1",
        'p.a.vPCId: added, "1"',
    ]
