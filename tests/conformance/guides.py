"""The examples of AWS's guides: the call behind each, and AWS's record of it.

`tests/data/guides.ndjson` has one example a line. `call` is the request by the names of botocore's
model, and AWS's answer. Calls go through the endpoint, one after the other, to an
upstream that gives this answer.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

from botocore.model import ListShape, MapShape, OperationModel, StructureShape

from opentrail.core.identity import Identity, account_of_key, key_for_account
from tests.capture.proxy.wires import endpoint
from tests.conformance.answers import Answer, answer_with, error_with, output_of
from tests.conformance.generate import Case, protocols_of, service_model
from tests.conformance.send import Sender
from tests.factories import ACCOUNT, an_identity
from tests.fakes import MemoryJournal
from tests.stub_upstream import PreparedUpstream

FILE = Path(__file__).parent.parent / "data" / "guides.ndjson"
_SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"


@dataclass(frozen=True, slots=True)
class Example:
    """A record in a guide, and its call."""

    guide: str
    page: str
    name: str
    call: Mapping[str, Any]
    record: Mapping[str, Any]

    @property
    def title(self) -> str:
        """Returns guide and name, unique among the examples."""
        return f"{self.guide}: {self.name}"

    @property
    def account(self) -> str:
        """Returns the account of the caller."""
        return str(self.record.get("recipientAccountId", ACCOUNT))

    @property
    def model(self) -> OperationModel:
        """Returns the model of the operation."""
        return service_model(self.call["service"]).operation_model(self.call["operation"])


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A record in a guide, and the reason why no call through opentrail has such a record."""

    guide: str
    page: str
    name: str
    reason: str


@cache
def _lines() -> list[dict[str, Any]]:
    return [json.loads(line) for line in FILE.read_text().splitlines()]


def examples() -> list[Example]:
    """Returns the examples with possible calls."""
    return [
        Example(line["guide"], line["page"], line["example"], line["call"], line["record"])
        for line in _lines()
        if "call" in line
    ]


def left_out() -> list[LeftOut]:
    """Returns the examples that are no calls through opentrail."""
    return [
        LeftOut(line["guide"], line["page"], line["example"], line["left_out"])
        for line in _lines()
        if "left_out" in line
    ]


async def records_of(chosen: list[Example]) -> list[dict[str, Any]]:
    """Makes the calls of examples, in turn; returns the record of each."""
    senders = cache(
        lambda account: Sender("http://127.0.0.1:4747", key_for_account(account), _SECRET)
    )
    journal = MemoryJournal()
    with PreparedUpstream() as upstream:
        port = int(upstream.host.partition(":")[2])
        async with endpoint(journal, port, resolve=_caller) as (own_port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", own_port)
            for number, example in enumerate(chosen):
                case = _case(example, number)
                answer = _answer(example, case)
                upstream.next = answer.raw(with_body=True)
                writer.write(senders(example.account).bytes_of(case))
                await reader.readuntil(b"\r\n\r\n")
                await reader.readexactly(len(answer.body))
            writer.close()
    return list(_first_of_each_call(journal))


def _first_of_each_call(journal: MemoryJournal) -> Iterator[dict[str, Any]]:
    """Yields the records of callers, without the copies for owners of resources."""
    for entry in journal.disk:
        record = json.loads(entry.record)
        if record["userIdentity"]["type"] != "AWSAccount" or "sharedEventID" not in record:
            yield record


def _caller(key_id: str) -> Identity:
    account = account_of_key(key_id)
    assert account is not None
    return an_identity(account=account, key=key_id)


def _case(example: Example, number: int) -> Case:
    service, operation = example.call["service"], example.call["operation"]
    parameters = typed(example.model.input_shape, example.call["input"])
    region = example.record["awsRegion"]
    protocol = protocols_of(service)[0]
    return Case(service, protocol, operation, "full", region, number, parameters)


def _answer(example: Example, case: Case) -> Answer:
    """Returns AWS's answer, or one with all modelled members where the example leaves it out."""
    record = example.record
    if "errorCode" in record:
        return error_with(case.protocol, _wire_code(case, record), record.get("errorMessage", ""))
    if "answer" not in example.call:
        output = output_of(case) or {}
    else:
        output = typed(example.model.output_shape, example.call["answer"])
    return answer_with(example.model, case.protocol, output)


def _wire_code(case: Case, record: Mapping[str, Any]) -> str:
    in_json = case.protocol in ("json", "rest-json")
    code = str(record["errorCode"])
    return "AccessDeniedException" if in_json and code == "AccessDenied" else code


def typed(shape: Any, value: Any) -> Any:
    """Returns a value of the file in botocore's form: the file has times and bytes as text."""
    match shape:
        case StructureShape() if isinstance(value, dict):
            return {name: typed(shape.members[name], item) for name, item in value.items()}
        case ListShape():
            return [typed(shape.member, item) for item in value]
        case MapShape():
            return {key: typed(shape.value, item) for key, item in value.items()}
    if shape is not None and shape.type_name == "timestamp":
        return datetime.fromisoformat(value)
    return value.encode() if shape is not None and shape.type_name == "blob" else value
