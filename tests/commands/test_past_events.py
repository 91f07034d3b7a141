"""Past events that commands read from a server."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from opentrail.commands.detections import records
from opentrail.core.errors import OpentrailError
from tests.factories import a_record, record_bytes
from tests.stub_console import StubConsole


def options(console: StubConsole) -> argparse.Namespace:
    since = "2020-01-01T00:00:00Z"
    return argparse.Namespace(data_dir=console.data_dir, endpoint=None, since=since)


def answer(console: StubConsole, *lines: dict[str, Any]) -> None:
    console.body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def test_records_come_from_the_stream(console: StubConsole) -> None:
    line = {"EventId": "x", "CloudTrailEvent": record_bytes(a_record()).decode()}
    answer(console, line, line, {"events": 2})
    assert list(records(options(console), "user=John")) == [a_record(), a_record()]
    assert "expression=user%3DJohn" in console.asked[0].path


def test_a_cut_stream_is_an_error(console: StubConsole) -> None:
    answer(console, {"EventId": "x", "CloudTrailEvent": "{}"})
    with pytest.raises(OpentrailError, match="was cut"):
        list(records(options(console), ""))
