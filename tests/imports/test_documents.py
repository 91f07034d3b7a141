"""Files of every shape, whole and damaged: nothing crashes, every loss is named (guarantee N5)."""

from __future__ import annotations

import base64
import gzip
import json
import random
import tarfile
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.attributes import attributes_of
from opentrail.imports import documents, json_records, unpacking
from opentrail.imports.documents import (
    RECORD_TOO_LARGE,
    elements_of,
    lines_of,
    read_file,
    wraps_one_list,
)
from opentrail.imports.json_records import (
    DIGEST_FILE,
    NOT_JSON,
    AcceptedRecord,
    InvalidText,
    RejectedRecord,
)
from opentrail.imports.unpacking import Large
from tests.collection import IS_WHOLE, WHOLE, collected_files, needs_the_whole, unpacked
from tests.factories import (
    a_record,
    real_records,
    record_bytes,
    some_records,
)

Result = AcceptedRecord | RejectedRecord


def read(content: bytes, first_line: int = 1) -> list[Result]:
    """Returns the results of a file, after checking each record."""
    results = list(read_file("file", content, first_line))
    for result in results:
        if isinstance(result, RejectedRecord):
            assert result.detail.isprintable()
            assert len(result.detail) <= 2000
            continue
        assert orjson.loads(result.raw) == result.record
        assert orjson.dumps(result.record)
        attributes_of(result.record)
    return results


def lines_taken(results: Sequence[Result]) -> list[int]:
    return [result.line for result in results if isinstance(result, AcceptedRecord)]


def raws(results: Sequence[Result]) -> list[bytes]:
    return [result.raw for result in results if isinstance(result, AcceptedRecord)]


def log_file(raw: Sequence[bytes]) -> bytes:
    return b'{"Records":[' + b",".join(raw) + b"]}"


def packed(content: bytes, times: int = 1) -> bytes:
    """Returns content packed with gzip, several times."""
    for _ in range(times):
        content = gzip.compress(content, mtime=0)
    return content


def event(raw: bytes) -> dict[str, Any]:
    """Returns a record as an event of LookupEvents."""
    return {"EventId": "x", "ReadOnly": "true", "CloudTrailEvent": raw.decode()}


def envelope(raw: bytes) -> bytes:
    return b'{"version":"0","detail-type":"AWS API Call via CloudTrail","detail": ' + raw + b" }"


#: Forms of a file with records, as AWS, aws-cli, jq or a person would write it.
SHAPES: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "log file": log_file,
    "log file with other members": lambda raw: b'{"a":{"Records":1},' + log_file(raw)[1:],
    "log file with space": lambda raw: b'\n{ "Records": [\n' + b" ,\n".join(raw) + b"\n]\n}\n",
    "array": lambda raw: b"[" + b", ".join(raw) + b"]\n",
    "lines": lambda raw: b"\n".join(raw),
    "lines with a last line end": lambda raw: b"".join(line + b"\n" for line in raw),
    "lines of Windows": lambda raw: b"".join(line + b"\r\n" for line in raw),
    "LookupEvents": lambda raw: json.dumps({"Events": [event(r) for r in raw]}, indent=4).encode(),
    "LookupEvents, cut by --max-items": lambda raw: json.dumps(
        {"NextToken": "x", "Events": [event(r) for r in raw]}
    ).encode(),
    "LookupEvents in lines": lambda raw: b"\n".join(json.dumps(event(r)).encode() for r in raw),
    "envelopes in lines": lambda raw: b"\n".join(map(envelope, raw)),
    "envelopes in an array": lambda raw: b"[" + b",".join(map(envelope, raw)) + b"]",
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("packed", ["plain", "packed", "packed and large"])
@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
def test_records_of_every_layout_keep_their_exact_bytes(
    shape: str, packed: str, bom: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unpacking, "MAX_BYTES_IN_MEMORY", 1000 if "large" in packed else 64 << 20)
    raw = [record_bytes(record) for record in real_records()]
    content = bom + SHAPES[shape](raw)
    results = read(content if packed == "plain" else gzip.compress(content))
    assert raws(results) == raw
    assert [result.line for result in results] == list(range(1, len(raw) + 1))


@pytest.mark.hypothesis
@given(
    shape=st.sampled_from([*SHAPES]),
    count=st.integers(1, 4),
    text=st.text(st.characters(codec="utf-8")),
    number=st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    spaced=st.booleans(),
    ascii_only=st.booleans(),
)
def test_the_formatting_of_json_stays(
    shape: str, count: int, text: str, number: float, spaced: bool, ascii_only: bool
) -> None:
    raw = [
        json.dumps(
            record | {"requestParameters": {text: text, "n": number}},
            separators=(", ", " : ") if spaced else (",", ":"),
            ensure_ascii=ascii_only,
        ).encode()
        for record in some_records(count)
    ]
    assert raws(read(SHAPES[shape](raw))) == raw


@pytest.mark.hypothesis
@given(st.lists(st.binary(max_size=20_000)), st.integers(0, 9))
def test_large_packed_file_has_a_small_ones_results(lines: list[bytes], level: int) -> None:
    content = record_bytes(a_record()) + b"\n" + b"\n".join(lines)
    packed = gzip.compress(content, level)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(unpacking, "MAX_BYTES_IN_MEMORY", 100)
        large = read(packed)
    assert large == read(packed)


@pytest.mark.slow
def test_large_packed_file_is_not_wholly_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MAX_BYTES_IN_MEMORY", 1 << 20)
    line = record_bytes(a_record()) + b"\n"
    packed = gzip.compress(line * 100, 1) * 100  # 10 MB
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_file("a", packed)) == 10_000
        assert tracemalloc.get_traced_memory()[1] < 5 << 20
    finally:
        tracemalloc.stop()


def test_records_in_lines_have_their_line_number() -> None:
    raw = [record_bytes(record) for record in some_records(4)]
    content = log_file(raw[:2]) + b"\n\n" + log_file(raw[2:3]) + b"\n" + raw[3]
    assert raws(read(content)) == raw
    assert lines_taken(read(content)) == [1, 1, 3, 4]


def test_a_piece_counts_from_its_first_line() -> None:
    raw = [record_bytes(record) for record in some_records(2)]
    assert lines_taken(read(b"\n".join(raw), 100)) == [100, 101]
    assert lines_taken(read(raw[0], 100)) == [100]
    assert read(b"no", 100)[0].line == 100


def test_a_single_record_may_have_several_lines() -> None:
    record = a_record()
    for indent in (None, 2):
        raw = json.dumps(record, indent=indent).encode()
        assert read(raw + b"\n") == [AcceptedRecord(1, raw, record)]


@pytest.mark.parametrize(
    "content", [b"", b"\n", b" \r\n\t\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)]
)
def test_an_empty_file_has_no_lines(content: bytes) -> None:
    assert read(content) == []


@pytest.mark.parametrize("content", [b'{"Records":[]}', b"[]", b'{"Events": []}'])
def test_an_empty_list_has_no_lines(content: bytes) -> None:
    assert read(content) == []


def test_a_digest_file_is_recognised() -> None:
    digest = {"awsAccountId": "1", "digestStartTime": "2020-01-01T00:00:00Z", "logFiles": []}
    for indent in (None, 2):
        content = json.dumps(digest, indent=indent).encode()
        assert read(content) == [RejectedRecord(1, DIGEST_FILE)]


def test_an_insights_event_is_accepted() -> None:
    insight = a_record(eventCategory="Insight", insightDetails={"state": "Start"})
    assert len(raws(read(log_file([record_bytes(insight)])))) == 1


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"date,user\n1,2\n", json_records.NOT_JSON),
        (b"PAR1\0\0", json_records.NOT_JSON),
        ("{}".encode("utf-16"), json_records.NOT_A_RECORD),
        (b"Event name,Event time,User name\r\nRunInstances,x,y\r\n", documents.CSV),
        (b'"eventid","eventname"\n"1","CreateUser"\n', documents.CSV),
        (b"\x1f", json_records.NOT_JSON),
        (b"\x1f\x8b", unpacking.DAMAGED_GZIP),
        (packed(b"[]", 4), unpacking.TOO_MANY_PACKINGS),
        (packed(b"1,2", 3), json_records.NOT_JSON),
        (b"{}", json_records.NOT_A_RECORD),
        (b'{"a":1}', json_records.NOT_A_RECORD),
        (b"5", json_records.NOT_AN_OBJECT),
        (b'"eventName"', json_records.NOT_AN_OBJECT),
        (b'{"Records":{"a":1}}', json_records.NOT_A_RECORD),
        (b'{"Records":[],"Records":[]}', json_records.DUPLICATE_MEMBER),
        (b'{"Records":[],"Re\\u0063ords":[{}]}', json_records.DUPLICATE_MEMBER),
        (b'{"Records":[],"x":"\xff"}', json_records.NOT_UTF8),
        (b'{"Records":[],"\xff":1}', json_records.NOT_UTF8),
        (b'{"Records":[' + b"[" * 100_000, json_records.TOO_DEEP),
        (b'{"Records":[' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"]}", json_records.TOO_DEEP),
        (b'{"CloudTrailEvent":"no"}', json_records.NOT_JSON),
        (b'{"CloudTrailEvent":"[]"}', json_records.NOT_AN_OBJECT),
        (b'{"detail-type":"EC2 Instance State-change","detail":{}}', json_records.NOT_A_RECORD),
    ],
    ids=lambda value: repr(value[:30]) if isinstance(value, bytes) else None,
)
def test_a_file_without_records_is_one_loss(content: bytes, reason: str) -> None:
    (rejected,) = read(content)
    assert isinstance(rejected, RejectedRecord)
    assert (rejected.line, rejected.reason) == (1, reason)


def test_a_list_in_a_record_has_no_records() -> None:
    inner = record_bytes(a_record())
    (accepted,) = read(record_bytes(a_record(Records=[json.loads(inner)])))
    assert isinstance(accepted, AcceptedRecord)
    (nested,) = read(log_file([log_file([inner])]))
    assert nested == RejectedRecord(1, json_records.NOT_A_RECORD, "it has Records")


@pytest.mark.parametrize("shape", SHAPES)
def test_only_the_bad_record_is_lost(shape: str) -> None:
    good = [record_bytes(record) for record in some_records(3)]
    for bad in (b'{"eventName":"a","eventName":"b"}', b'{"a":"\\ud800","eventName":"\\n"}', b"{}"):
        results = read(SHAPES[shape]([good[0], bad, good[1], good[2]]))
        assert lines_taken(results) == [1, 3, 4]
        assert raws(results) == good


@pytest.mark.parametrize("member", ["", ', "x\\"y\\ud83d\\ude00" : "\\ud800"', ', "NextToken":""'])
def test_half_a_character_costs_its_own_record_only(member: str) -> None:
    good = [json.dumps(a_record(requestParameters={"a": "😀\\"})).encode() for _ in range(2)]
    bad = good[0].replace(b"CreateUser", rb"\udc00")
    listed = b" ,\n".join([good[0], bad, good[1]])
    results = read(b'{ "Records" : [' + listed + b"]" + member.encode() + b"}")
    if "ud800" in member:
        assert [result.line for result in results] == [1]  # the file as a whole is not right
        return
    assert lines_taken(results) == [1, 3]
    assert raws(results) == good


# Files from people's tools

#: What CloudTrail Lake's and Athena's queries return, by column.
COLUMNS = ("eventID", "eventTime", "eventName", "eventSource", "userIdentity", "readOnly")


def row_of(raw: bytes) -> dict[str, str]:
    record = json.loads(raw)
    row = {name: record[name] for name in COLUMNS}
    return {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()}


def lake(rows: Sequence[dict[str, str]]) -> bytes:
    cells = [[{name: value} for name, value in row.items()] for row in rows]
    return json.dumps({"QueryStatus": "FINISHED", "QueryResultRows": cells}, indent=4).encode()


def athena(rows: Sequence[dict[str, str]], with_names: bool = True) -> bytes:
    names = [name.lower() for name in rows[0]]
    cells = [names] * with_names + [[*row.values()] for row in rows]
    result = {
        "Rows": [{"Data": [{"VarCharValue": value} for value in row]} for row in cells],
        "ResultSetMetadata": {"ColumnInfo": [{"Name": name} for name in names]},
    }
    return json.dumps({"UpdateCount": 0, "ResultSet": result}).encode()


def log_events(raw: Sequence[bytes]) -> list[dict[str, Any]]:
    return [{"id": "1", "timestamp": 1, "message": one.decode()} for one in raw]


def subscription(raw: Sequence[bytes], kind: str = "DATA_MESSAGE") -> bytes:
    described = {"messageType": kind, "owner": "1", "logGroup": "g", "logEvents": log_events(raw)}
    return json.dumps(described).encode()


def lambda_event(raw: Sequence[bytes]) -> bytes:
    data = base64.b64encode(packed(subscription(raw))).decode()
    return json.dumps({"awslogs": {"data": data}}).encode()


def kinesis_event(raw: Sequence[bytes]) -> bytes:
    data = base64.b64encode(packed(subscription(raw))).decode()
    record = {"kinesis": {"data": data}, "eventName": "aws:kinesis:record", "eventID": "1"}
    return json.dumps({"Records": [record]}).encode()


def pretty(raw: bytes) -> bytes:
    return json.dumps(json.loads(raw), indent=2).encode()


#: Files of three valid records.
WRITTEN_BY_TOOLS: dict[str, Callable[[Sequence[bytes]], bytes]] = {
    "Firehose": b"".join,
    "Firehose, log files": lambda raw: b"".join(log_file([one]) for one in raw),
    "Firehose, subscription": lambda raw: b"".join(packed(subscription([one])) for one in raw),
    "joined, one with a line end": lambda raw: raw[0] + raw[1] + b"\n" + raw[2],
    "jq, indented": lambda raw: b"\n".join(map(pretty, raw)) + b"\n",
    "jq, indented and lines": lambda raw: raw[0] + b"\n" + pretty(raw[1]) + b"\n" + raw[2],
    "jq --seq": lambda raw: b"".join(b"\x1e" + one + b"\n" for one in raw),
    "cat of files with marks": lambda raw: b"".join(b"\xef\xbb\xbf" + r + b"\r\n" for r in raw),
    "cat of lists": lambda raw: b"[%b,%b]\n[%b]" % (*raw,),
    "cat of log files": lambda raw: log_file(raw[:2]) + b"\n" + log_file(raw[2:]),
    "list without brackets": lambda raw: b",\n".join(raw) + b",\n",
    "subscription": subscription,
    "subscriptions in lines": lambda raw: b"\n".join(subscription([one]) for one in raw),
    "subscription and control message": lambda raw: (
        subscription([b"CWL CONTROL MESSAGE"], "CONTROL_MESSAGE") + subscription(raw)
    ),
    "Lambda event": lambda_event,
    "Lambda events in lines": lambda raw: b"\n".join(lambda_event([one]) for one in raw),
    "data of a Lambda event": lambda raw: base64.b64encode(packed(subscription(raw))),
    "Lambda event of Kinesis": kinesis_event,
    "Kinesis GetRecords": lambda raw: json.dumps(
        {"Records": [{"Data": base64.b64encode(r).decode(), "PartitionKey": "1"} for r in raw]}
    ).encode(),
    "filter-log-events": lambda raw: json.dumps(
        {"events": log_events(raw), "searchedLogStreams": []}, indent=4
    ).encode(),
    "get-log-events": lambda raw: json.dumps(
        {"events": log_events(raw), "nextForwardToken": "f/1"}
    ).encode(),
    "logs exported to S3": lambda raw: b"".join(
        b"2026-11-20T10:00:00.000Z " + one + b"\n" for one in raw
    ),
    "logs tail": lambda raw: b"".join(
        b"2026-11-20T10:00:00.000000+00:00 1_CloudTrail_us-east-1 " + one + b"\n" for one in raw
    ),
    "Logs Insights": lambda raw: json.dumps(
        {"results": [[{"field": "@message", "value": r.decode()}] for r in raw], "status": "Done"}
    ).encode(),
    "Lake, whole records": lambda raw: lake([{"eventJson": one.decode()} for one in raw]),
    "Athena, whole records": lambda raw: athena([{"record": one.decode()} for one in raw]),
}
PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes,
    "gzip in gzip": lambda content: packed(content, 2),
    "UTF-16 of PowerShell": lambda content: content.decode().encode("utf-16"),
    "UTF-16 in gzip": lambda content: packed(content.decode().encode("utf-16-be"), 1),
    "UTF-32": lambda content: content.decode().encode("utf-32"),
}


def test_files_of_tools_are_imported_whole() -> None:
    """More than a hundred files: each form in each possible packing."""
    raw = [record_bytes(record) for record in some_records(3)]
    wrong: dict[tuple[str, str], object] = {}
    for shape, written in WRITTEN_BY_TOOLS.items():
        for packing, pack in PACKINGS.items():
            content = written(raw)
            if "UTF" in packing and (content.startswith(b"\x1f") or b"\xef\xbb\xbf" in content):
                continue
            results = read(pack(content))
            if [json.loads(one) for one in raws(results)] != [json.loads(one) for one in raw]:
                wrong[shape, packing] = results
            elif "indented" not in shape and raws(results) != raw:
                wrong[shape, packing] = "changed bytes"
    assert not wrong


def test_query_rows_become_records() -> None:
    raw = [record_bytes(record) for record in some_records(3)]
    expected = [{name: json.loads(one)[name] for name in COLUMNS} for one in raw]
    rows = [row_of(one) for one in raw]
    for content in (lake(rows), athena(rows), athena(rows, with_names=False)):
        assert [json.loads(one) for one in raws(read(content))] == expected


def test_a_mistake_costs_its_document_only() -> None:
    good = [record_bytes(record) for record in some_records(3)]
    cut = good[1][:-20]
    message = json.dumps({"message": "no record"}).encode()
    without_name = {**row_of(good[1])}
    del without_name["eventName"], without_name["eventSource"]
    bad_identity = {**row_of(good[1]), "userIdentity": "{type=IAMUser, username=x}"}
    files: dict[str, tuple[bytes, list[int], str]] = {
        "joined": (good[0] + b"{}" + good[2], [1], f"character {len(good[0]) + 1} of the line"),
        "joined, cut": (good[0] + b'{"a":}' + good[2], [1], "of the line"),
        "lines, cut": (b"\n".join([good[0], cut, good[2]]), [2], ""),
        "indented, cut": (
            b"\n".join([pretty(good[0]), pretty(good[1])[:-9], pretty(good[2])]),
            [pretty(good[0]).count(b"\n") + 2],
            "",
        ),
        "indented, half a character": (
            b"\n".join([pretty(good[0]), pretty(good[1])[:-2] + b',"x":"\xff"}', pretty(good[2])]),
            [pretty(good[0]).count(b"\n") + 2],
            "",
        ),
        "UTF-16, half a character": (
            b"\xff\xfe"
            + b"\n\0".join(
                part.decode().encode("utf-16-le").replace(b"C\0r\0e", b"C\0\0\xdce")
                if part is good[1]
                else part.decode().encode("utf-16-le")
                for part in good
            ),
            [2],
            "",
        ),
        "log files, one cut": (
            log_file(good[:1]) + b"\n" + log_file([cut])[:-2] + b"\n" + log_file(good[2:]),
            [2],
            "",
        ),
        "line with a list": (
            good[0] + b"\n" + log_file([good[2], b"{}"]) + b"\n",
            [2],
            "element 2",
        ),
        "log events": (
            b'{"events":[%b]}'
            % b",".join(
                [*(json.dumps({"message": good[n].decode()}).encode() for n in (0, 2)), message]
            ),
            [3],
            "it has message",
        ),
        "Lambda event": (
            lambda_event([good[0]]) + b"\n" + b'{"awslogs":{"data":"H4sIAAA"}}\n' + good[2],
            [2],
            "",
        ),
    }
    wrong = {}
    for name, (content, places, detail) in files.items():
        results = read(content)
        rejected = [result for result in results if isinstance(result, RejectedRecord)]
        accepted = [json.loads(one) for one in raws(results)]
        if (
            accepted != [json.loads(good[0]), json.loads(good[2])]
            or [result.line for result in rejected] != places
            or detail not in rejected[0].detail
        ):
            wrong[name] = results
    assert not wrong
    for rows, detail in (
        ([without_name], "the row has no eventName, eventSource: select the whole record"),
        ([bad_identity], "userIdentity is not JSON"),
    ):
        (one,) = read(lake(rows))
        assert isinstance(one, RejectedRecord)
        assert detail in one.detail


# Damage: more than 10,000 variants of real files


def small_records() -> list[bytes]:
    return sorted((record_bytes(record) for record in real_records()), key=len)[:3]


def one_loss(results: Sequence[Result]) -> bool:
    return len(results) == 1 and isinstance(results[0], RejectedRecord) and results[0].line == 1


def test_a_log_file_cut_anywhere_is_one_loss() -> None:
    whole = log_file(small_records())
    for end in range(1, len(whole)):
        assert one_loss(read(whole[:end])), end


def test_lines_cut_anywhere_lose_the_last_one_only() -> None:
    raw = small_records()
    whole = b"\n".join(raw)
    for end in range(len(raw[0]) + 1, len(whole)):
        before = whole[:end].count(b"\n")
        results = read(whole[:end])
        if whole[:end].endswith(b"\n") or whole[end : end + 1] == b"\n":
            assert len(lines_taken(results)) == len(results)
        else:
            assert raws(results) == raw[:before]
            assert len(results) == before + 1


def damaged(whole: bytes, position: int, chance: random.Random) -> bytes:
    """Returns the bytes with one of them changed, removed or doubled."""
    kind = chance.randrange(4)
    if kind == 0:
        return whole[:position] + whole[position + 1 :]
    if kind == 1:
        return whole[:position] + whole[position : position + 1] + whole[position:]
    new = whole[position] ^ (1 << chance.randrange(8)) if kind == 2 else chance.randrange(256)
    return whole[:position] + bytes([new]) + whole[position + 1 :]


def oracle(content: bytes) -> list[Any] | None:
    """Returns the records of a log file by Python's own parser, if it succeeds."""
    try:
        document = json.loads(content.decode())
        return list(document["Records"])
    except (ValueError, KeyError, TypeError):
        return None


@pytest.mark.slow
def test_damaged_log_file_loses_only_the_damaged_part() -> None:
    raw = small_records()
    whole, chance = log_file(raw), random.Random(5)
    ends, end = [], len(b'{"Records":[')
    for part in raw:
        end += len(part) + 1
        ends.append(end)
    for position in [*range(len(whole))] * 4:
        content = damaged(whole, position, chance)
        results = read(content)
        expected = oracle(content)
        if one_loss(results) and expected is not None:
            assert isinstance(results[0], RejectedRecord)
            assert "occurs twice" in results[0].reason or len(expected) == 1
            continue
        if expected is not None:
            assert len(results) == len(expected)
            assert [r.record for r in results if isinstance(r, AcceptedRecord)] == [
                expected[r.line - 1] for r in results if isinstance(r, AcceptedRecord)
            ]
        if expected is None:
            assert set(raws(results)) < set(raw)
        elif len(results) == len(raw):
            hurt = sum(position >= end for end in ends)
            others = [part for number, part in enumerate(raw) if number != hurt]
            assert set(others) <= set(raws(results))


@pytest.mark.slow
def test_a_line_damaged_anywhere_loses_no_other_line() -> None:
    raw = small_records()
    whole, chance = b"\n".join(raw), random.Random(6)
    for position in range(len(whole)):
        content = damaged(whole, position, chance)
        results = read(content)
        intact = [part for part in content.split(b"\n") if part in raw]
        assert len(results) > len(intact) or len(raw) == len(intact)
        assert set(intact) <= set(raws(results))


def test_damaged_packed_file_is_whole_or_one_loss() -> None:
    raw = small_records()
    packed, chance = gzip.compress(log_file(raw), mtime=0), random.Random(7)
    for end in range(1, len(packed)):
        assert one_loss(read(packed[:end]))
    for position in [*range(len(packed))] * 3:
        results = read(damaged(packed, position, chance))
        assert one_loss(results) or raws(results) == raw


@pytest.mark.parametrize("size", [10, 253, 254, 500, 5_000, 200_000])
@pytest.mark.parametrize(
    ("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}"), (b'{"items":', b"}")]
)
def test_nesting_costs_no_more_than_the_file(size: int, opening: bytes, closing: bytes) -> None:
    good = record_bytes(a_record())
    nest = opening * size + b"1" + closing * size
    bad = record_bytes(a_record(requestParameters=None)).replace(
        b'"requestParameters":null', b'"requestParameters":' + nest
    )
    in_lines = read(b"\n".join([good, bad, good]))
    assert lines_taken(in_lines) == ([1, 2, 3] if size <= 253 else [1, 3])
    in_list = read(log_file([good, bad, good]))
    assert one_loss(in_list) or lines_taken(in_list) == lines_taken(in_lines)


def test_a_huge_number_costs_its_record() -> None:
    good = record_bytes(a_record())
    for digits in (20, 300, 310, 4_300, 4_301, 1_000_000):
        bad = good.replace(b'"readOnly":false', b'"readOnly":1' + b"0" * digits)
        assert lines_taken(read(log_file([good, bad, good]))) == (
            [1, 2, 3] if digits < 309 else [1, 3]
        )


@pytest.mark.slow
def test_many_odd_lines_take_linear_time() -> None:
    content = b'{"' + b'{"a":1,"a":2}\n' * 50_000
    assert len(read(content)) == 50_000


@pytest.mark.hypothesis
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x1f\x8b", b'{"Records":[', b"[", b'{"']))
def test_any_bytes_are_read_without_a_crash(content: bytes, head: bytes) -> None:
    results = read(head + content)
    text = (head + content).removeprefix(b"\xef\xbb\xbf").strip()
    assert results or text in (b"", b"[]", b'{"Records":[]}')


# Large packed files, part by part

OBJECTS = st.dictionaries(
    st.sampled_from("ab"),
    st.text(max_size=30) | st.lists(st.dictionaries(st.sampled_from("xy"), st.text(max_size=9))),
)


def in_parts(text: bytes, size: int) -> Iterator[bytes]:
    for position in range(0, len(text), size):
        yield text[position : position + size]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window of 50 to 400 bytes."""
    monkeypatch.setattr(documents, "_WINDOW_BYTES", 50)
    monkeypatch.setattr(documents, "_MAX_WINDOW_BYTES", 400)


@given(st.binary(), st.integers(1, 50))
def test_lines_do_not_depend_on_the_chunks(text: bytes, size: int) -> None:
    lines = list(lines_of(in_parts(text, size)))
    assert b"".join(lines) == text.removeprefix(b"\xef\xbb\xbf") or size < 3
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines[:-1])


@pytest.mark.slow
@pytest.mark.hypothesis
@given(st.lists(OBJECTS), st.integers(1, 200), st.sampled_from([None, 0, 3]), st.booleans())
def test_elements_do_not_depend_on_the_chunks(
    records: list[Any], size: int, indent: int | None, bom: bool
) -> None:
    text = json.dumps({"Records": records}, indent=indent).encode()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(documents, "_WINDOW_BYTES", 50)
        whole = b"\xef\xbb\xbf" * bom + text + b"\n"
        elements = list(elements_of(in_parts(whole, size + 30)))
    assert [json.loads(element) for element in elements] == records


@pytest.mark.parametrize(
    ("head", "tail", "does"),
    [
        (b'{"Records":[{', b"}]}", True),
        (b'\xef\xbb\xbf\n{ "Events" : [', b" ] \n} \n", True),
        (b'{"Records":[', b'],"x":[1]}', True),
        (b'{"x":1,"Records":[', b"]}", False),
        (b'{"Records":[', b'],"x":1}', False),
        (b"[{", b"}]", False),
    ],
)
def test_a_log_file_is_recognised_by_its_ends(head: bytes, tail: bytes, does: bool) -> None:
    assert wraps_one_list(Large(head, tail)) is does


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    "rest", [b'{"a":}', b"{} {}", b'{"a":1', b'{}],"x":[{}', b'{}],"Records":[{}']
)
def test_later_errors_keep_earlier_entries(rest: bytes) -> None:
    text = b'{"Records":[' + b'{"a":1},' * 50 + rest + b"]}"
    given: list[bytes] = []
    with pytest.raises(InvalidText) as refused:
        given.extend(elements_of(in_parts(text, 60)))
    assert refused.value.reason == NOT_JSON
    assert 40 <= len(given) <= 51


@pytest.mark.usefixtures("small")
def test_an_endless_record_is_refused_early() -> None:
    read = 0

    def endless() -> Iterator[bytes]:
        nonlocal read
        yield b'{"Records":[{"a":"'
        while True:
            read += 100
            yield b"x" * 100

    with pytest.raises(InvalidText) as refused:
        list(elements_of(endless()))
    assert refused.value.reason == RECORD_TOO_LARGE
    assert read < 1000


@pytest.mark.usefixtures("small")
def test_a_list_without_beginning_is_refused() -> None:
    with pytest.raises(InvalidText):
        list(elements_of([b"[]"]))


# Real files


@pytest.mark.slow
def test_every_collected_line_is_accepted_or_rejected() -> None:
    reasons: Counter[str] = Counter()
    accepted = lines = 0
    for file in collected_files():
        lines += unpacked(file).count(b"\n")
        for result in read(file.read_bytes()):
            accepted += isinstance(result, AcceptedRecord)
            if isinstance(result, RejectedRecord):
                reasons[result.reason] += 1
    print(f"{lines} lines, {accepted} accepted, {dict(reasons)}")
    assert lines == accepted + reasons.total()
    of_the_whole = {json_records.NO_TIME: 52, json_records.NO_ID: 14, json_records.BAD_TIME: 2}
    assert reasons == (of_the_whole if IS_WHOLE else {json_records.NO_ID: 2})


@pytest.mark.slow
@needs_the_whole
def test_all_records_of_delivered_log_files_are_accepted() -> None:
    for archive in sorted(WHOLE.glob("original-files/*.tar.gz")):
        with tarfile.open(archive) as files:
            for member in files:
                stream = files.extractfile(member)
                if stream is None:
                    continue
                content = stream.read()
                results = read(content)
                unpacked = gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
                assert [orjson.loads(raw) for raw in raws(results)] == orjson.loads(unpacked)[
                    "Records"
                ]


@needs_the_whole
def test_published_digest_files_are_recognised() -> None:
    files = sorted(WHOLE.glob("digests/*digest-file*.json"))
    assert files
    for file in files:
        assert read(file.read_bytes()) == [RejectedRecord(1, DIGEST_FILE)]


@pytest.mark.parametrize("content", [b"\xff\xfe\x00binary", b"PK\x03\x04 zip", b"no JSON"])
def test_an_invalid_gz_file_has_that_reason(content: bytes) -> None:
    (rejected,) = read_file("log.json.gz", content)
    assert isinstance(rejected, RejectedRecord)
    assert rejected.reason == "not a gzip file"
    (plain,) = read_file("log.json", content)
    assert isinstance(plain, RejectedRecord)
    assert plain.reason in ("not valid UTF-8", "not JSON")
