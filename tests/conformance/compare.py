"""Compares records with expectations; names the first difference by its place."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from tests.conformance.expect import HIDDEN, REWRITTEN, Expected, expected, leaves, region_of
from tests.conformance.five_services import expect_s3
from tests.conformance.send import Sent
from tests.conformance.tables import LEFT_OUT

#: Services with opentrail's own answers, which other tests check.
_OWN = frozenset({"cloudtrail", "cloudtrail-data"})
#: Notes of failed decoding in our own block.
_TROUBLES = ("decodeError", "answerDecodeError", "duplicateKeys", "altered", "failure")


def differences(sent: Sent, record: Mapping[str, Any]) -> list[str]:
    """Returns the differences between the record and the case's expected one."""
    case, want = sent.case, expected(sent.case, sent.scope)
    pairs = {
        "eventSource": want.event_source,
        "eventName": want.event_name,
        "awsRegion": region_of(case.service, sent.scope),
        "readOnly": want.read_only,
        "eventCategory": want.event_category,
        "managementEvent": want.event_category == "Management",
    }
    pairs["apiVersion"] = want.api_version
    found = [f"{n}: {record.get(n)!r}, not {w!r}" for n, w in pairs.items() if record.get(n) != w]
    own = (record.get("additionalEventData") or {}).get("opentrail") or {}
    found += [f"{name}: {own[name]!r}" for name in _TROUBLES if name in own]
    if case.service == "s3":
        return found  # checked by the five services
    if case.service == "s3control":
        wanted = expect_s3.parameters(case, sent.host)  # type: ignore[arg-type]
        # botocore adds checksums.
        shown = {n: v for n, v in record["requestParameters"].items() if "-checksum-" not in n}
        return found + list(_unequal("requestParameters", shown, wanted))
    found += _leaked(sent, want, record)
    if case.service == "ec2":
        left_out = LEFT_OUT.get(case.operation, frozenset())
        return found + _lost(want, record, REWRITTEN | left_out)
    found += _of_answer(case.service, want, record)
    return found + list(
        _unequal("requestParameters", record["requestParameters"], want.request_parameters)
    )


def _of_answer(service: str, want: Expected, record: Mapping[str, Any]) -> list[str]:
    if service in _OWN:
        return []
    found = []
    if record.get("errorCode") != want.error_code:
        found.append(f"errorCode: {record.get('errorCode')!r}, not {want.error_code!r}")
    elements = record["responseElements"]
    return found + list(_unequal("responseElements", elements, want.response_elements))


def _leaked(sent: Sent, want: Expected, record: Mapping[str, Any]) -> list[str]:
    """Returns strings of the request that occur in the record and must not."""
    given = {text for text in leaves(sent.case.params) if sent.case.variant in text}
    shown = {*leaves(want.request_parameters), *leaves(want.response_elements)}
    leaked = (given - shown) & set(leaves(record))
    return [f"leak: {text!r} should not be anywhere" for text in sorted(leaked)]


def _lost(want: Expected, record: Mapping[str, Any], skipped: Collection[str]) -> list[str]:
    """Returns the scalars of the request that are nowhere in an EC2 record."""
    wanted = set(leaves(_without(want.request_parameters or {}, skipped))) - {HIDDEN}
    recorded = record["requestParameters"]
    shown = {_bare(text) for text in (*leaves(recorded), *_names(recorded))}
    lost = {text for text in wanted if _bare(text) and not _forms(text) & shown}
    return [f"requestParameters: {text!r} is lost" for text in sorted(lost)]


def _forms(text: str) -> set[str]:
    """Returns spellings of a scalar in EC2's hand-made forms, mainly numbers and times."""
    forms = {_bare(text)}
    if re.fullmatch(r"-?[0-9.]+(e-?[0-9]+)?", text):
        forms |= {_bare(str(float(text))), _bare(f"{float(text):.10f}".rstrip("0").rstrip("."))}
    if re.fullmatch(r"[0-9]{11,13}", text):
        moment = datetime.fromtimestamp(int(text) / 1000, UTC)
        forms.add(_bare(f"{moment:%Y-%m-%dT%H:%M:%SZ}"))
    return forms


def _bare(text: str) -> str:
    """Returns the letters and digits: some attributes become names with other capitals."""
    return re.sub(r"[\W_]+", "", text).lower()


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _names(item)


def _without(value: Any, names: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {k: _without(v, names) for k, v in value.items() if k not in names}
    return [_without(item, names) for item in value] if isinstance(value, list) else value


def _unequal(path: str, got: Any, want: Any) -> Iterator[str]:
    """Yields every difference of two JSON values; in Python True equals 1, here it does not."""
    if isinstance(want, dict) and isinstance(got, dict):
        for name in [*want, *(n for n in got if n not in want)]:
            here = f"{path}.{name}"
            if name not in got:
                yield f"{here}: missing, not {_short(want[name])}"
            elif name not in want:
                yield f"{here}: {_short(got[name])}, should not be there"
            else:
                yield from _unequal(here, got[name], want[name])
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        for index, (one, other) in enumerate(zip(got, want, strict=True)):
            yield from _unequal(f"{path}[{index}]", one, other)
    elif type(want) is not type(got) or want != got:
        yield f"{path}: {_short(got)}, not {_short(want)}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 90 else f"{text[:87]}..."


def kind_of(difference: str) -> str:
    """Returns a difference without the values of single cases, for counting."""
    where, _, what = difference.partition(": ")
    place = re.sub(r"\[[0-9]+\]", "[]", where)
    return f"{place}: {what[:40]}"
