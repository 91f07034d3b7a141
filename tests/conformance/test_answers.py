"""botocore's own parsers read the generated answers."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.parsers import create_parser

from tests.conformance.answers import answer_of, output_of
from tests.conformance.generate import LOADER, Case, cases, service_model, services

#: The services whose every answer is read back; every protocol is among them.
_READ_BACK = ("cloudwatch", "docdb", "ec2", "iam", "glacier", "kms", "lambda", "route53", "sqs")


@pytest.mark.slow
@pytest.mark.parametrize("service", _READ_BACK)
def test_botocore_reads_generated_answers(service: str) -> None:
    wrong = []
    for case in cases(service):
        if case.variant == "full" and not _is_stream(case):
            read = _read(case)
            if read != output_of(case):
                wrong.append((str(case), read, output_of(case)))
    assert not wrong, f"{len(wrong)}: {wrong[:2]}"


def _is_stream(case: Case) -> bool:
    """Returns whether botocore passes the answer's body, bytes or events, on unread."""
    shape = case.model.output_shape
    payload = shape and shape.serialization.get("payload")
    return bool(payload and shape.members[payload].type_name == "blob") or (
        case.model.has_event_stream_output
    )


def _read(case: Case) -> dict[str, Any]:
    answer, shape = answer_of(case), case.model.output_shape
    raw = {"body": answer.body, "headers": _Folded(answer.headers), "status_code": answer.status}
    parsed = create_parser(case.protocol).parse(raw, shape)
    members = shape.members if shape is not None else {}
    codes = {n for n, m in members.items() if m.serialization.get("location") == "statusCode"}
    return {name: value for name, value in parsed.items() if name in set(members) - codes}


class _Folded(dict[str, str]):
    """Headers, regardless of case."""

    def get(self, name: str, default: Any = None) -> Any:
        return next((v for n, v in self.items() if n.lower() == name.lower()), default)

    def __contains__(self, name: object) -> bool:
        return self.get(str(name)) is not None

    def __getitem__(self, name: str) -> str:
        return str(self.get(name))


@pytest.mark.slow
def test_cases_are_the_same_in_every_run() -> None:
    assert list(cases("iam")) == list(cases("iam"))
    numbers = [case.number for service in services()[:40] for case in cases(service)]
    assert len(numbers) == len(set(numbers))
    assert (
        LOADER.load_service_model("iam", "service-2")["metadata"] == service_model("iam").metadata
    )
