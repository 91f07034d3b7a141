"""The requirements of every registered format; add a sample here with each new reader."""

from __future__ import annotations

import base64
import gzip
import json
import random
from collections.abc import Callable

import pytest

from opentrail.imports import documents, unpacking
from opentrail.imports.documents import read_file
from opentrail.imports.formats import LISTS, READERS
from opentrail.imports.json_records import AcceptedRecord, RejectedRecord, Result
from tests.factories import real_records, record_bytes, some_records

FORMATS = [*LISTS, *READERS]


def lookup_event(raw: bytes) -> bytes:
    return json.dumps({"EventId": "x", "CloudTrailEvent": raw.decode()}).encode()


def log_event(raw: bytes) -> bytes:
    return json.dumps({"id": "1", "timestamp": 1, "message": raw.decode()}).encode()


#: Format → a sample with these records; a format of one record holds the first.
SAMPLES: dict[str, Callable[[list[bytes]], bytes]] = {
    "log file": lambda raws: b'{"Records": [%b]}' % b" , ".join(raws),
    "output of LookupEvents": lambda raws: (
        b'{"Events": [%b]}' % b", ".join(map(lookup_event, raws))
    ),
    "CloudWatch Logs subscription": lambda raws: (
        b'{"logEvents": [%b]}' % b", ".join(map(log_event, raws))
    ),
    "output of FilterLogEvents": lambda raws: (
        b'{"events": [%b]}' % b", ".join(map(log_event, raws))
    ),
    "Firehose records": lambda raws: (
        b'{"records": [%b]}'
        % b", ".join(b'{"recordId":"1","data":"%b"}' % base64.b64encode(raw) for raw in raws)
    ),
    "event of LookupEvents": lambda raws: lookup_event(raws[0]),
    "EventBridge event": lambda raws: (
        b'{"detail-type": "AWS API Call via CloudTrail", "detail": %b}' % raws[0]
    ),
    "CloudWatch Logs event": lambda raws: log_event(raws[0]),
}


def read(content: bytes) -> list[Result]:
    return list(read_file("file", content))


def read_large(content: bytes, monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Reads a packed file as if it were too large for memory, in windows of 200 bytes."""
    with monkeypatch.context() as patched:
        patched.setattr(unpacking, "MAX_BYTES_IN_MEMORY", 2 * len(content) // 3)
        patched.setattr(documents, "_WINDOW_BYTES", 200)
        return read(gzip.compress(content, 1))


def raws_of(results: list[Result]) -> list[bytes]:
    return [result.raw for result in results if isinstance(result, AcceptedRecord)]


def samples(name: str, raws: list[bytes]) -> tuple[list[bytes], bytes]:
    """Returns the records in a sample, and the sample."""
    return raws if name in LISTS else raws[:1], SAMPLES[name](raws)


def test_every_format_has_a_sample() -> None:
    assert list(SAMPLES) == FORMATS


@pytest.mark.parametrize("name", FORMATS)
def test_sample_gives_the_exact_bytes_of_its_records(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, sample = samples(name, [record_bytes(record) for record in real_records()])
    in_lines = b"\n".join([sample, sample])
    in_a_list = b"[%b, %b]" % (sample, sample)
    for content, copies in ((sample, 1), (in_lines, 2), (in_a_list, 2)):
        assert raws_of(read(content)) == expected * copies
        assert read_large(content, monkeypatch) == read(content)


@pytest.mark.parametrize("name", FORMATS)
def test_a_sample_cut_anywhere_is_one_rejection(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, sample = samples(name, [record_bytes(record) for record in some_records(2)])
    for end in range(1, len(sample)):
        (rejected,) = read(sample[:end])
        assert isinstance(rejected, RejectedRecord), end
        assert rejected.reason
        assert read_large(sample[:end], monkeypatch) == [rejected]


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_sample_damaged_anywhere_gives_records_or_reasons(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, sample = samples(name, [record_bytes(record) for record in some_records(2)])
    chance = random.Random(24)
    for position in range(len(sample)):
        damaged = sample[:position] + bytes([chance.randrange(256)]) + sample[position + 1 :]
        for results in (read(damaged), read_large(damaged, monkeypatch)):
            assert results
            assert all(result.reason for result in results if isinstance(result, RejectedRecord))
