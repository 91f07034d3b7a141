"""Rebuilds the request and the answer behind a real record, by botocore's model alone.

The reverse of CloudTrail's form: names are found regardless of case, so that a wrong casing on
our side is visible. Uses nothing of `opentrail.capture`. Members outside a model cannot be sent;
`Rebuilt.unknown` names them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

from opentrail.wire.message import Request
from opentrail.wire.service_models import Service
from tests.conformance.rebuild_answer import loose_xml
from tests.conformance.rebuild_ec2 import ec2_parameters
from tests.conformance.rebuild_values import HIDDEN_TEXTS, scalar_of, secret_of
from tests.factories import an_sdk_request, catalog

#: eventSource's label -> botocore's services, where prefix, signing name and name do not decide.
_SERVICES = {
    "amazonmq": ["mq"],
    "bedrock": ["bedrock-runtime", "bedrock", "bedrock-agent"],
    "cloudhsm": ["cloudhsmv2"],
    "elasticloadbalancing": ["elb", "elbv2"],
    "lambda": ["lambda"],
    "monitoring": ["cloudwatch"],
    "rds": ["rds"],
    "s3": ["s3", "s3control"],
    "ses": ["ses", "sesv2"],
    "states": ["stepfunctions"],
}
#: eventName -> operation.
_OPERATIONS = {
    "DeleteAccountPublicAccessBlock": "DeletePublicAccessBlock",
    "DeleteBucketPublicAccessBlock": "DeletePublicAccessBlock",
    "GetAccelerateConfiguration": "GetBucketAccelerateConfiguration",
    "GetAccountPublicAccessBlock": "GetPublicAccessBlock",
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "GetBucketObjectLockConfiguration": "GetObjectLockConfiguration",
    "GetBucketPublicAccessBlock": "GetPublicAccessBlock",
    "PutAccountPublicAccessBlock": "PutPublicAccessBlock",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "PutBucketPublicAccessBlock": "PutPublicAccessBlock",
}
_DATED = re.compile(r"(20\d{6}(v\d)?|20\d\d_\d\d_\d\d)$")


class RebuildError(Exception):
    """A record is too incomplete to rebuild its request."""


@dataclass
class Rebuilt:
    """A request, and the paths in the record outside the model."""

    service: Service
    operation: str
    request: Request
    unknown: set[str] = field(default_factory=set)


def operation_of(record: Mapping[str, Any]) -> tuple[Service, str] | None:
    """Returns the service and the operation behind a record, None if botocore has neither."""
    if record.get("eventType", "AwsApiCall") != "AwsApiCall":
        return None
    label, name = record["eventSource"].partition(".")[0], record["eventName"]
    wanted = [name]
    if label == "s3":
        wanted = [_OPERATIONS.get(name, name)]
        if "list-type" in (record.get("requestParameters") or {}):
            wanted = ["ListObjectsV2"]
    wanted.append(_DATED.sub("", name))
    services = _services(label)
    if "Account" in name and label == "s3":
        services = services[::-1]
    if "2015" in record.get("apiVersion", ""):
        services = services[::-1]
    for service in services:
        for operation in wanted:
            if service.operation(operation) is not None:
                return service, operation
    return None


def _services(label: str) -> list[Service]:
    services = catalog().services
    if label in _SERVICES:
        return [services[name] for name in _SERVICES[label]]
    return [
        s
        for s in services.values()
        if label in (s.endpoint_prefix.rpartition(".")[2], s.signing_name, s.name)
    ]


def rebuild(record: Mapping[str, Any]) -> Rebuilt:
    """Returns the request behind a record.

    Raises:
        RebuildError: the record is too incomplete for a request.
    """
    found = operation_of(record)
    if found is None:
        raise RebuildError("not an operation that botocore knows")
    service, operation = found
    given = record.get("requestParameters") or {}
    unknown: set[str] = set()
    model = service.model.operation_model(operation)
    if service.name in ("s3", "s3control"):
        return Rebuilt(service, operation, _s3_request(service, operation, given), unknown)
    if service.name == "ec2":
        parameters = ec2_parameters(model.input_shape, given, unknown)
    else:
        parameters = Reverse(unknown).structure(model.input_shape, given, "")
    _check_labels(model, parameters)
    return Rebuilt(service, operation, an_sdk_request(service.name, operation, parameters), unknown)


def _check_labels(model: Any, parameters: Mapping[str, Any]) -> None:
    members = model.input_shape.members if model.input_shape is not None else {}
    for name, member in members.items():
        if member.serialization.get("location") == "uri" and not parameters.get(name):
            raise RebuildError(f"the path needs {name}, which the record leaves out")


class Reverse:
    """Recorded values in botocore's form."""

    def __init__(self, unknown: set[str]) -> None:
        self._unknown = unknown

    def value(self, shape: Any, shown: Any, path: str) -> Any:
        """Returns a recorded value by the model."""
        if shown in HIDDEN_TEXTS:
            return secret_of(shape)
        if shape.type_name == "structure" and not getattr(shape, "is_document_type", False):
            return self.structure(shape, shown, path)
        if shape.type_name == "list" and isinstance(shown, list):
            return [self.value(shape.member, item, f"{path}[]") for item in shown]
        if shape.type_name == "map" and isinstance(shown, dict):
            return {k: self.value(shape.value, v, f"{path}.{k}") for k, v in shown.items()}
        if shape.type_name in ("list", "map"):
            self._unknown.add(path)
            return [] if shape.type_name == "list" else {}
        return scalar_of(shape, shown)

    def structure(self, shape: Any, shown: Any, path: str) -> dict[str, Any]:
        """Returns a structure's members under the model's names."""
        if shape is None or not isinstance(shown, dict):
            self._unknown.add(path)
            return {}
        found = {}
        by_name = {name.casefold(): name for name in shape.members}
        for key, item in shown.items():
            where = f"{path}.{key}" if path else key
            name = by_name.get(key.casefold())
            if name is None or item is None:
                self._unknown.add(where)
                continue
            found[name] = self.value(shape.members[name], item, where)
        return found


def _s3_request(service: Service, operation: str, given: Mapping[str, Any]) -> Request:
    """Returns an S3 request by the model's marks of path, query, headers and body."""
    model = service.model.operation_model(operation)
    _check_s3(model, given)
    members = model.input_shape.members
    parameters: dict[str, Any] = {"Bucket": given.get("bucketName"), "Key": given.get("key")}
    if service.name == "s3control":
        parameters["AccountId"] = "123456789012"
    places = {m.serialization.get("name", n).casefold(): n for n, m in members.items()}
    body, query, headers = b"", [], {}
    for key, shown in given.items():
        name = places.get(key.casefold(), "")
        if key in ("bucketName", "key") or key.casefold() == "host" or _is_fixed(model, key):
            continue
        if key == "bucketPolicy":
            body = json.dumps(shown).encode()
        elif isinstance(shown, dict):
            body = loose_xml(key, shown)
        elif name and members[name].serialization.get("location") in ("querystring", "header"):
            parameters[name] = scalar_of(members[name], shown)
        elif key.startswith("x-amz-"):
            headers[key] = str(shown)
        else:
            query.append(f"{quote(key)}={quote(str(shown))}")
    known = {n: v for n, v in parameters.items() if v is not None and n in members}
    request = an_sdk_request(service.name, operation, known)
    whole_query = "&".join(filter(None, [request.query, *query]))
    return replace(request, query=whole_query, headers={**request.headers, **headers}, body=body)


def _check_s3(model: Any, given: Mapping[str, Any]) -> None:
    if isinstance(given.get("host"), list):
        raise RebuildError("S3's form until 2019, with every value in a list")
    if model.name == "CopyObject" and "x-amz-copy-source" not in given:
        raise RebuildError("the record leaves out the header that makes it a copy")
    for name, recorded in (("Bucket", "bucketName"), ("Key", "key")):
        member = model.input_shape.members.get(name) if model.input_shape is not None else None
        needed = member is not None and member.serialization.get("location") == "uri"
        if needed and not given.get(recorded):
            raise RebuildError(f"the path needs {name}, which the record leaves out")


def _is_fixed(model: Any, key: str) -> bool:
    fixed = model.http["requestUri"].partition("?")[2]
    return key in [part.partition("=")[0] for part in fixed.split("&")]
