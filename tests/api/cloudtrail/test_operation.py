"""The register of operations against AWS's model, and the arguments of a call."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from opentrail.api.cloudtrail.operation import REGISTER, OperationCall, operation
from opentrail.api.cloudtrail.server import OPERATION_MODULES
from opentrail.core.errors import CloudTrailError
from tests.api.caller import Api
from tests.factories import ACCOUNT, REGION, catalog

MODEL = catalog().services["cloudtrail"].model
DATA_MODEL = catalog().services["cloudtrail-data"].model


def a_call(**given: Any) -> OperationCall:
    api = Api()
    return OperationCall(
        "LookupEvents",
        given,
        ACCOUNT,
        REGION,
        "e",
        api.services,
        api.resource_policies,
        frozenset(),
        None,
        lambda uri: None,
        lambda action: None,
    )


def test_every_operation_that_exists_is_in_awss_model() -> None:
    assert OPERATION_MODULES
    assert set(REGISTER) <= {*MODEL.operation_names, *DATA_MODEL.operation_names}
    assert {name: registered.name for name, registered in REGISTER.items()} == {
        name: name for name in REGISTER
    }


def test_the_operations_of_this_version_exist() -> None:
    assert {
        *("CreateTrail", "UpdateTrail", "DeleteTrail", "GetTrail", "DescribeTrails", "ListTrails"),
        *("StartLogging", "StopLogging", "GetTrailStatus", "ListPublicKeys", "LookupEvents"),
    } <= set(REGISTER)


@pytest.mark.parametrize("name", sorted(REGISTER))
def test_omitted_members_and_errors_exist_in_the_model(name: str) -> None:
    registered = REGISTER[name]
    model = DATA_MODEL if name in DATA_MODEL.operation_names else MODEL
    members = set(model.operation_model(name).input_shape.members)
    assert registered.without <= members
    assert set(registered.errors) <= members
    assert {member for group in registered.either for member in group} <= members
    for code in registered.errors.values():
        assert code in model.shape_names


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, None),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        (1_577_869_200, datetime(2020, 1, 1, 9, tzinfo=UTC)),
        (1_577_869_200.25, datetime(2020, 1, 1, 9, 0, 0, 250_000, tzinfo=UTC)),
        (-1, datetime(1969, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_a_time_is_read_from_its_seconds(seconds: float | None, expected: datetime | None) -> None:
    call = a_call(StartTime=seconds) if seconds is not None else a_call()
    assert call.time("StartTime") == expected


@pytest.mark.parametrize("seconds", [1e20, -1e20, 1e308, 253_402_300_800, -62_135_596_801])
def test_an_impossible_time_is_an_invalid_range(seconds: float) -> None:
    with pytest.raises(CloudTrailError, match="StartTime") as error:
        a_call(StartTime=seconds).time("StartTime")
    assert error.value.code == "InvalidTimeRangeException"


def test_registering_returns_the_handler_itself() -> None:
    async def handler(call: OperationCall) -> dict[str, Any]:
        return {}

    try:
        assert operation("NotAnOperation", without=("A",), errors={"B": "C"})(handler) is handler
        registered = REGISTER["NotAnOperation"]
        assert registered.handler is handler
        assert registered.without == {"A"}
        assert registered.errors == {"B": "C"}
    finally:
        del REGISTER["NotAnOperation"]
