"""Computes the required record parts of a case of the five services.

Imports nothing of opentrail: this is the second opinion. S3, whose parameters follow the wire
instead of the model's member names, is in `expect_s3`; the others are in `conformance/expect.py`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from tests.conformance import tables
from tests.conformance.expect import HIDDEN as HIDDEN
from tests.conformance.expect import Recorded, is_read_only, region_of, renamed, source_of
from tests.conformance.five_services import expect_s3
from tests.conformance.five_services.generate import Case
from tests.conformance.generate import service_model

_UNSIGNED = ("AssumeRoleWithSAML", "AssumeRoleWithWebIdentity")
#: Calls to directory buckets and to Object Lambda are signed for other services.
_SIGNED_FOR = {"ListDirectoryBuckets": "s3express", "WriteGetObjectResponse": "s3-object-lambda"}


@dataclass(frozen=True, slots=True)
class Expected:
    """The parts of the record that follow from the request alone."""

    event_source: str
    event_name: str
    aws_region: str
    request_parameters: dict[str, Any] | None
    read_only: bool
    event_category: str


def expected(case: Case, host: str = "localhost") -> Expected:
    """Returns the expected record of a case.

    Args:
        case: The call.
        host: The Host header of the call, `host:port` of the endpoint; only S3 records it.
    """
    name, source, model = case.operation, source_of(case.service), service_model(case.service)
    if case.service == "s3":
        parameters: dict[str, Any] | None = expect_s3.parameters(case, host)
        name = tables.EVENT_NAMES["s3"].get(name, name)
    else:
        shape = model.operation_model(case.operation).input_shape
        parameters = Recorded(case.service, model.metadata["protocol"]).request(shape, case.params)
        parameters = renamed(case.service, name, parameters)
    is_data = tables.listed(tables.DATA_OPERATIONS, source, case.operation)
    return Expected(
        event_source=f"{_SIGNED_FOR.get(case.operation, source)}.amazonaws.com",
        event_name=name,
        aws_region=region_of(case.service, [] if name in _UNSIGNED else ["", case.region, ""]),
        request_parameters=parameters or None,
        read_only=is_read_only(source, case.operation),
        event_category="Data" if is_data else "Management",
    )


def comparable(parameters: Mapping[str, Any], given: Collection[str] = ()) -> dict[str, Any]:
    """Returns the parameters without the checksum headers that botocore adds.

    botocore 1.44 adds `x-amz-checksum-<algorithm>` (and `x-amz-sdk-checksum-algorithm`) to S3
    operations that require a checksum or name an algorithm; their values depend on the exact
    bytes it serialised, so the expected parameters leave them out.

    Args:
        parameters: `requestParameters` of the record made.
        given: Names to keep although they look like checksums: pass the expected parameters.
    """
    return {
        name: value
        for name, value in parameters.items()
        if name in given or not _is_checksum_header(name)
    }


def _is_checksum_header(name: str) -> bool:
    return name.startswith("x-amz-checksum-") or name == "x-amz-sdk-checksum-algorithm"
