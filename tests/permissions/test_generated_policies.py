"""Policies of generated principals, judged without the tables that made them.

`iam-map-needs.json.gz` has the permissions of each call on AWS, after another project's map; the
plain evaluator of `tests/core/policies` judges the policies.
"""

from __future__ import annotations

import gzip
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentrail.capture.record_rules import event_name, lower_first, source_of
from opentrail.permissions.authorization import is_known
from opentrail.permissions.event_actions import prefix_of
from opentrail.permissions.generate import GeneratedPolicy, generate, kinds_of
from opentrail.permissions.replay import refused_by
from opentrail.wire.service_models import ServiceCatalog
from tests.core.policies.naive import statement_fits
from tests.factories import ACCOUNT, a_record

PRINCIPALS = 40
DATA = Path(__file__).parent.parent / "data/iam-map-needs.json.gz"
#: A member of the request in an ARN; without a name, AWS's own part.
PLACE = re.compile(r"\{([\w.\[\]]*)\}")
#: Operations with a wrong or only partly true entry in the map, and the reason.
DIFFERENT = {
    "connect.CreateQueue": "the id of the caller's number is in no member named for a number",
    "dynamodb.DescribeContributorInsights": "of an index the table is not needed",
    "dynamodb.Query": "as DescribeContributorInsights",
    "dynamodb.Scan": "as DescribeContributorInsights",
    "dynamodb.UpdateContributorInsights": "as DescribeContributorInsights",
    "ec2.AllocateAddress": "a pool of own addresses has no member named for its ARN",
    "ec2.AssociateVpcCidrBlock": "as AllocateAddress",
    "ec2.CreateNetworkInterface": "records have groupSet instead of Groups",
    "ec2.CreateVpc": "as AllocateAddress",
    "ec2.ModifyInstanceAttribute": "records have groupSet instead of Groups",
    "ec2.ModifyNetworkInterfaceAttribute": "records have groupSet instead of Groups",
    "ec2.ModifyTrafficMirrorSession": "the map takes the target for the filter",
    "events.DeleteRule": "a rule of another event bus has another form: one of both is enough",
    "events.DisableRule": "as DeleteRule",
    "events.EnableRule": "as DeleteRule",
    "events.PutRule": "as DeleteRule",
    "events.RemoveTargets": "as DeleteRule",
    "iam.UpdateUser": "with a new name only",
    "mediapackage.ConfigureLogs": "the action of the same name is newer than the map",
    "neptune.CreateDBInstance": "security groups of EC2-Classic, which is no more",
    "neptune.DescribeDBClusterEndpoints": "the endpoint is a filter",
    "network-firewall.CreateFirewallPolicy": "the map takes the policy for its rule groups",
    "networkmanager.CreateLink": "the map takes the site for the network",
    "quicksight.GenerateEmbedUrlForAnonymousUser": "the map takes the namespace for resources",
    "rds.CreateDBInstance": "security groups of EC2-Classic, which is no more",
    "rds.DescribeDBClusterEndpoints": "the endpoint is a filter",
    "s3.CopyObject": "the actions depend on headers of the request",
    "s3.HeadObject": "only with a version",
}
#: The map has the actions of Lex V1 for it.
WITH_OLD_ACTIONS = "lexv2-models"
#: Tags on creation: "Required permissions" of the services' API references and user guides.
TAGGED = {
    ("dynamodb", "CreateTable"): ("tableName", "dynamodb:TagResource", "table/{}"),
    ("iam", "CreateUser"): ("userName", "iam:TagUser", "user/{}"),
    ("iam", "CreateRole"): ("roleName", "iam:TagRole", "role/{}"),
    ("lambda", "CreateFunction"): ("functionName", "lambda:TagResource", "function:{}"),
    ("logs", "CreateLogGroup"): ("logGroupName", "logs:TagResource", "log-group:{}"),
    ("rds", "CreateDBInstance"): ("dBInstanceIdentifier", "rds:AddTagsToResource", "db:{}"),
    ("secretsmanager", "CreateSecret"): ("name", "secretsmanager:TagResource", "secret:{}-x9Y8z7"),
    ("sns", "CreateTopic"): ("name", "sns:TagResource", "{}"),
    ("sqs", "CreateQueue"): ("queueName", "sqs:TagQueue", "{}"),
    ("ssm", "PutParameter"): ("name", "ssm:AddTagsToResource", "parameter/{}"),
}


@dataclass(frozen=True)
class Call:
    """A call with its permissions."""

    name: str
    record: Any
    needs: tuple[tuple[str, str], ...]


def put(request: dict[str, Any], path: str, value: str) -> None:
    """Sets a member of a request, such as `A.B[].C`, to a value in the records' form."""
    part: Any = request
    *parents, last = path.split(".")
    for parent in parents:
        name = lower_first(parent.removesuffix("[]"))
        child: Any = part.setdefault(name, [{}] if parent.endswith("[]") else {})
        part = child[0] if isinstance(child, list) else child
    part[lower_first(last.removesuffix("[]"))] = [value] if last.endswith("[]") else value


def asked_of(arn: str) -> str:
    """Returns the resource in AWS's question to policies: some ARNs are longer than their form.

    A log group has `:log-stream:` at its end, a secret six characters.
    """
    if ":log-group:" in arn and ":log-stream:" not in arn:
        return f"{arn}:log-stream:"
    is_secret = ":secretsmanager:" in arn and not arn.endswith("-x9Y8z7")
    return f"{arn}-a1B2c3" if is_secret else arn


def mapped_calls() -> Iterator[Call]:
    """Yields a call of each operation with permissions in the map."""
    numbers = itertools.count()
    services = ServiceCatalog().services
    for service, operations in json.loads(gzip.decompress(DATA.read_bytes())).items():
        is_compared = service in services and service != WITH_OLD_ACTIONS
        for operation, rows in operations.items() if is_compared else ():
            number = next(numbers)
            request: dict[str, Any] = {}
            source = source_of(services[service])
            own = [row for row in rows if row[0].endswith(f":{operation}")]
            needs = []
            # Other actions depend on the request, or a service calls them with its own records.
            for action, form in own or rows:
                values = {
                    path: f"{path.rpartition('.')[2].removesuffix('[]')}-{number}"
                    if path
                    else "m4d3"
                    for path in PLACE.findall(form)
                }
                for path, value in values.items():
                    if path:
                        put(request, path, value)
                arn = PLACE.sub(lambda each: values[each[1]], form)  # noqa: B023
                if action.partition(":")[0] == prefix_of(source):
                    needs.append((action, asked_of(arn)))
            record = a_record(
                eventSource=f"{source}.amazonaws.com",
                eventName=event_name(service, operation),
                requestParameters=request,
                responseElements=None,
            )
            yield Call(f"{service}.{operation}", record, tuple(needs))


def tagged_calls() -> Iterator[Call]:
    for (service, operation), (member, action, name) in TAGGED.items():
        region = "" if service == "iam" else "us-east-1"
        arn = f"arn:aws:{service}:{region}:{ACCOUNT}:{name.format('new-1')}"
        record = a_record(
            eventSource=f"{service}.amazonaws.com",
            eventName=event_name(service, operation),
            requestParameters={member: "new-1", "tags": [{"key": "team", "value": "a"}]},
            responseElements=None,
        )
        yield Call(f"{service}.{operation} with tags", record, ((action, arn),))


def refusals(calls: list[Call], made: GeneratedPolicy) -> Iterator[str]:
    """Yields permissions that calls need and a policy does not allow."""
    statements = [each for document in made.documents for each in document["Statement"]]
    of_action: dict[str, list[Any]] = {}
    for statement in statements:
        for action in statement["Action"]:
            of_action.setdefault(action.lower(), []).append(statement)
    for call in calls:
        for action, arn in call.needs:
            able = of_action.get(action.lower(), ())
            if not any(statement_fits(each, action, arn, {}, variables=True) for each in able):
                yield f"{call.name}: {action} on {arn}"


def test_policies_allow_the_permissions_of_another_map() -> None:
    everything = [*mapped_calls(), *tagged_calls()]
    calls = [call for call in everything if call.name not in DIFFERENT]
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for number in range(PRINCIPALS):
        own = calls[number::PRINCIPALS]
        kinds = kinds_of(call.record for call in own)
        made = generate(kinds)
        assert refused_by(made, kinds) == 0
        wrong += refusals(own, made)
        actions = {
            action
            for document in made.documents
            for statement in document["Statement"]
            for action in statement["Action"]
        }
        wrong += [f"{action} does not exist" for action in actions if not is_known(action)]
        counts["calls"] += len(own)
        counts["needs"] += sum(len(call.needs) for call in own)
        counts["open"] += made.unverified.total() + made.unmapped.total()
    assert wrong == []
    assert DIFFERENT.keys() <= {call.name for call in everything}
    assert len({call.name.partition(".")[0] for call in calls}) > 180
    assert counts["calls"] > 4_000
    assert counts["needs"] > 4_500
    assert counts["open"] < 100
