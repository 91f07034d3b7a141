"""Every operation of five services, sent by botocore through the endpoint, is recorded whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import pytest

from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET
from tests.conformance.five_services import expect_s3
from tests.conformance.five_services.expect import comparable, expected
from tests.conformance.five_services.generate import SERVICES, Case, cases
from tests.conformance.five_services.send import EXCEPTED, send
from tests.live.processes import Opentrail, opentrail_server
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]


@dataclass
class Recorded:
    """The sent cases, and their records by user agent."""

    server: Opentrail
    cases: dict[str, list[Case]]
    records: dict[str, list[Mapping[str, Any]]]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    folder: Path = tmp_path_factory.mktemp("decoding")
    with (
        StubUpstream() as upstream,
        opentrail_server(folder / "data", "--upstream", upstream.url) as server,
    ):
        sent: dict[str, list[Case]] = {}
        for service in SERVICES:
            sent[service] = [c for c in cases(service) if (service, c.operation) not in EXCEPTED]
            for case in sent[service]:
                send(server.url, case, ADMIN_KEY_ID, ADMIN_SECRET)
        assert upstream.count == sum(len(of_service) for of_service in sent.values())
        found: dict[str, list[Mapping[str, Any]]] = {}
        for record in server.records():
            found.setdefault(str(record["userAgent"]).strip("[]"), []).append(record)
        yield Recorded(server, sent, found)


@pytest.mark.parametrize("service", SERVICES)
def test_every_calls_record_equals_its_input(recorded: Recorded, service: str) -> None:
    wrong = []
    host = recorded.server.url.removeprefix("http://")
    for case in recorded.cases[service]:
        records = recorded.records.get(case.user_agent, [])
        parts = expect_s3.parts_of(service, case.operation, case.params)
        if len(records) != 1 + len(parts):
            wrong.append((str(case), f"{len(records)} records"))
            continue
        *others, call = records  # the newest is first
        if not all(map(expect_s3.is_part, reversed(others), repeat(call), parts)):
            wrong.append((str(case), "other records of its objects"))
        difference = differs(case, call, host)
        if difference:
            wrong.append((str(case), difference))
    assert not wrong, f"{len(wrong)} of {len(recorded.cases[service])}: {wrong[:5]}"


def differs(case: Case, record: Mapping[str, Any], host: str) -> str | None:
    want = expected(case, host=host)
    got = record["requestParameters"]
    if case.service == "s3" and got is not None:
        got = comparable(got, want.request_parameters or {})
    # Compared as JSON text: in Python True equals 1.
    pairs = {
        "eventSource": (record["eventSource"], want.event_source),
        "eventName": (record["eventName"], want.event_name),
        "awsRegion": (record["awsRegion"], want.aws_region),
        "readOnly": (record["readOnly"], want.read_only),
        "eventCategory": (record["eventCategory"], want.event_category),
        "requestParameters": (text(got), text(want.request_parameters)),
    }
    signed = want.event_source == "sts.amazonaws.com" and "With" in want.event_name
    if not signed:
        pairs["accessKeyId"] = (record["userIdentity"].get("accessKeyId"), ADMIN_KEY_ID)
    for name, (found, wanted) in pairs.items():
        if found != wanted:
            return f"{name}: {found!r} instead of {wanted!r}"
    return None


def text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


def test_every_member_is_decoded(recorded: Recorded) -> None:
    for records in recorded.records.values():
        for record in records:
            own = (record.get("additionalEventData") or {}).get("opentrail") or {}
            assert "decodeError" not in own, record
    assert sum(len(of_service) for of_service in recorded.cases.values()) > 1_500
