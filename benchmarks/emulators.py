"""What an emulator's own CloudTrail records, beside opentrail: the same calls, field by field.

python -m benchmarks.emulators           prints a table of MiniStack's and opentrail's records

It sends ten operations of thirty services each, with the smallest valid input, through opentrail to
a MiniStack that records. Calls with errors count as well: CloudTrail records them. Neither side is
asked for more than the call says: which operation of which service, by whom, with what.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import botocore.exceptions

from opentrail.capture.record_rules import event_name, source_of
from opentrail.wire.service_models import ServiceCatalog
from tests.live.ministack import ministack
from tests.live.processes import Opentrail, eventually

SERVICES = (
    *("acm", "apigateway", "appconfig", "athena", "autoscaling", "backup", "cloudformation"),
    *("cloudwatch", "codebuild", "cognito-idp", "dynamodb", "ec2", "ecr", "ecs", "efs", "eks"),
    *("events", "firehose", "glue", "iam", "kinesis", "kms", "lambda", "logs", "rds", "s3"),
    *("secretsmanager", "sns", "sqs", "ssm"),
)
OPERATIONS = 10
#: What each record of a call is asked for.
FIELDS = ("a record", "eventName", "eventSource", "caller", "requestParameters")
#: Calls whose parameters AWS does not record.
WITHOUT_PARAMETERS = ("ChangePassword",)
Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Call:
    """A call that was sent, by the names that CloudTrail gives it."""

    source: str
    name: str
    has_parameters: bool


def send(server: Opentrail, after_each_service: Callable[[], None]) -> list[Call]:
    """Sends the calls, and returns them."""
    catalog = ServiceCatalog()
    sent: list[Call] = []
    for service in SERVICES:
        of_service: list[Call] = []
        client = server.boto(service, key="test", secret="test")
        source = source_of(catalog.services[service])
        for operation in client.meta.service_model.operation_names:
            if len(of_service) == OPERATIONS:
                break
            model = client.meta.service_model.operation_model(operation)
            given = _value(model.input_shape) if model.input_shape else {}
            method = next(
                name for name, api in client.meta.method_to_api_mapping.items() if api == operation
            )
            try:
                getattr(client, method)(**given)
            except botocore.exceptions.ClientError:
                pass
            except botocore.exceptions.ParamValidationError:
                continue  # not sent
            name = event_name(service, operation)
            has_parameters = _has_values(given) and name not in WITHOUT_PARAMETERS
            of_service.append(Call(f"{source}.amazonaws.com", name, has_parameters))
        sent += of_service
        after_each_service()
    return sent


def _has_values(given: Any) -> bool:
    """Returns whether input has any value: query protocols send no empty lists and structures."""
    if isinstance(given, dict):
        return any(map(_has_values, given.values()))
    return any(map(_has_values, given)) if isinstance(given, list) else True


def _value(shape: Any) -> Any:
    """Returns a small value of a botocore shape, with its required members only."""
    match shape.type_name:
        case "structure":
            return {name: _value(shape.members[name]) for name in shape.required_members}
        case "list":
            return [_value(shape.member)]
        case "map":
            return {_value(shape.key): _value(shape.value)}
        case "string":
            least = int(shape.metadata.get("min", 1))
            return (shape.enum or ["opentrail"])[0].ljust(least, "x")
        case "boolean":
            return False
        case "blob":
            return b"x"
        case "timestamp":
            return datetime(2020, 1, 1, tzinfo=UTC)
        case _:
            return int(shape.metadata.get("min", 1))


def score(calls: list[Call], records: list[Json], is_caller: Callable[[Json], bool]) -> Json:
    """Returns for how many calls there is a record, and how many of these have each field right."""
    left = list(records)
    counts: Counter[str] = Counter()
    for call in calls:
        found = _take(left, call)
        if found is None:
            continue
        counts["a record"] += 1
        counts["eventName"] += found.get("eventName") == call.name
        counts["eventSource"] += found.get("eventSource") == call.source
        counts["caller"] += is_caller(found.get("userIdentity") or {})
        has = bool(found.get("requestParameters"))
        counts["requestParameters"] += has or not call.has_parameters
    return {field: counts[field] for field in FIELDS}


def _take(records: list[Json], call: Call) -> Json | None:
    """Takes the record of a call out of a list: the one that names it best."""
    for is_it in (
        lambda r: (r.get("eventSource"), r.get("eventName")) == (call.source, call.name),
        lambda r: r.get("eventSource") == call.source,
    ):
        for index, record in enumerate(records):
            if is_it(record):
                return records.pop(index)
    return None


class OwnRecords:
    """What MiniStack's own CloudTrail has, of which it shows the 50 newest."""

    def __init__(self, url: str) -> None:
        import boto3

        self._trail = boto3.client(
            "cloudtrail",
            "us-east-1",
            endpoint_url=url,
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )
        self.found: dict[str, Json] = {}

    def read(self) -> None:
        """Reads what is new."""
        for event in self._trail.lookup_events()["Events"]:
            record = json.loads(event["CloudTrailEvent"])
            if record["eventSource"] != "cloudtrail.amazonaws.com":
                self.found[event["EventId"]] = record


def measure() -> tuple[int, dict[str, Json]]:
    """Returns the number of calls, and what each side recorded of them."""
    with tempfile.TemporaryDirectory() as folder, ministack(CLOUDTRAIL_RECORDING="1") as url:
        server = Opentrail(Path(folder) / "data", "--upstream", url)
        server.start(OPENTRAIL_UPSTREAM_CHECK="on")
        try:
            own = OwnRecords(url)
            calls = send(server, own.read)
            eventually(lambda: server.count() >= len(calls), "every call has a record")
            ours = score(calls, server.records(), lambda caller: caller.get("type") == "Root")
            theirs = score(
                calls,
                list(own.found.values()),
                lambda caller: caller.get("arn") == "arn:aws:iam::000000000000:root",
            )
        finally:
            server.close()
    return len(calls), {"MiniStack": theirs, "opentrail": ours}


def main() -> None:
    """Prints the table."""
    count, found = measure()
    print(f"{count} calls of {len(SERVICES)} services")
    print("| | " + " | ".join(FIELDS) + " |")
    print("|---|" + "---|" * len(FIELDS))
    for name, fields in found.items():
        print(f"| {name} | " + " | ".join(str(fields[field]) for field in FIELDS) + " |")


if __name__ == "__main__":
    main()
