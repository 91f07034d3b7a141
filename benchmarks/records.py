"""Many records made from real ones: fresh event ids, request ids, keys, times and addresses."""

from __future__ import annotations

import gzip
import random
import re
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson

ROOT = Path(__file__).parents[1]
OWN = ROOT / "tests" / "data" / "real-records.ndjson"
SHARED = ROOT.parent / "shared" / "data" / "cloudtrail"
ACCOUNT, REGION = "123456789012", "us-east-1"
BEGIN = datetime(2026, 8, 1, tzinfo=UTC)
_KEY = re.compile(rb'"(?:AKIA|ASIA)[A-Z0-9]{12,16}"')
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_MARKS = ("eventID", "requestID", "eventTime", "sourceIPAddress")
#: Of how many keys and addresses the records are.
KEYS, ADDRESSES = 2_000, 5_000


class Multiplier:
    """Makes records from templates; the same seed gives the same ones.

    Every record is in one account and Region, so that every look-up has all of them before it. They
    follow one another as the real ones did.
    """

    def __init__(self, seconds: int, seed: int = 1) -> None:
        self._chance = random.Random(seed)
        self._seconds = seconds
        self._templates = [parts for raw in _real() for parts in [_template(raw)]]
        letters = self._chance.choices
        self._keys = [
            b'"AKIA' + "".join(letters(_LETTERS, k=16)).encode() + b'"' for _ in range(KEYS)
        ]
        self._addresses = [
            f"10.{self._chance.randrange(256)}.{self._chance.randrange(256)}.{n % 256}".encode()
            for n in range(ADDRESSES)
        ]

    @property
    def templates(self) -> int:
        """How many real records it has."""
        return len(self._templates)

    def records(self, first: int, count: int, total: int) -> Iterator[bytes]:
        """Yields records `first`… of `total`, which are spread over the time evenly."""
        chance = self._chance
        for number in range(first, first + count):
            moment = BEGIN + timedelta(seconds=number * self._seconds // total)
            values = {
                b"eventID": uuid.UUID(int=chance.getrandbits(128), version=4).hex,
                b"requestID": uuid.UUID(int=chance.getrandbits(128), version=4).hex,
                b"eventTime": f"{moment:%Y-%m-%dT%H:%M:%SZ}",
            }
            made = []
            key, address = chance.choice(self._keys), chance.choice(self._addresses)
            for part in self._templates[number % len(self._templates)]:
                if part == b"\0key":
                    made.append(key)
                elif part == b"\0sourceIPAddress":
                    made.append(address)
                elif part.startswith(b"\0"):
                    text = values[part[1:]]
                    made.append((text if part == b"\0eventTime" else _dashed(text)).encode())
                else:
                    made.append(part)
            yield b"".join(made)


def _dashed(text: str) -> str:
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _real() -> Iterator[bytes]:
    """Yields real records: those beside the repository if they are there, else its own."""
    files = [file for file in sorted(SHARED.glob("*.ndjson.gz")) if "shape" not in file.name]
    lines = (
        [line for file in files for line in gzip.decompress(file.read_bytes()).splitlines()]
        if files
        else OWN.read_bytes().splitlines()
    )
    seen = set()
    for line in lines:
        record = orjson.loads(line)
        if not isinstance(record, dict) or not all(record.get(mark) for mark in _MARKS):
            continue
        if record["eventID"] in seen or not str(record["eventSource"]).endswith(".amazonaws.com"):
            continue
        seen.add(record["eventID"])
        record["recipientAccountId"], record["awsRegion"] = ACCOUNT, REGION
        record.setdefault("eventCategory", "Management")
        for mark in _MARKS:
            record[mark] = f"\0{mark}"
        yield orjson.dumps(record)


def _template(raw: bytes) -> tuple[bytes, ...]:
    """Returns a record's constant parts, and marks where a fresh value goes."""
    text = _KEY.sub(b"\x01key\x01", raw)
    for mark in _MARKS:
        text = text.replace(f"\\u0000{mark}".encode(), f"\x01{mark}\x01".encode())
    parts = text.split(b"\x01")
    names = {mark.encode() for mark in _MARKS} | {b"key"}
    return tuple(b"\0" + part if part in names else part for part in parts if part)
