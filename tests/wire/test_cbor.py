"""The CloudTrail API in CBOR."""

from __future__ import annotations

import base64
import contextlib
from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import CloudTrailError
from opentrail.wire.cbor import encode, operation_in, parse
from opentrail.wire.service_models import ServiceCatalog

MODEL = ServiceCatalog().services["cloudtrail"].model
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.slow
@given(st.dictionaries(st.text(), VALUES, max_size=5))
def test_json_values_are_read_unchanged(document: dict[str, Any]) -> None:
    given = {name: value for name, value in document.items() if value is not None}
    assert parse(cbor2.dumps(document)) == given


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with contextlib.suppress(CloudTrailError):
        assert isinstance(parse(body), dict)


def test_times_and_blobs_have_the_form_of_json() -> None:
    moment = datetime(2020, 1, 1, 9, tzinfo=UTC)
    body = cbor2.dumps({"StartTime": moment, "Value": b"\x00\xff"})
    assert parse(body) == {"StartTime": 1577869200, "Value": "AP8="}


def test_output_has_tagged_times_and_plain_blobs() -> None:
    shape = MODEL.operation_model("ListPublicKeys").output_shape
    key = {"Value": base64.b64encode(b"der").decode(), "ValidityStartTime": 1577869200}
    found = cbor2.loads(encode(shape, {"PublicKeyList": [key]}))
    assert found == {
        "PublicKeyList": [
            {"Value": b"der", "ValidityStartTime": datetime(2020, 1, 1, 9, tzinfo=UTC)}
        ]
    }


@pytest.mark.parametrize(
    "given", [b"\xff", cbor2.dumps([1]), cbor2.dumps({1: 2}), cbor2.dumps({"a": float("nan")})]
)
def test_other_bodies_are_refused(given: bytes) -> None:
    with pytest.raises(CloudTrailError) as refused:
        parse(given)
    assert refused.value.code == "SerializationException"


def test_deep_nesting_is_refused() -> None:
    nested: Any = {}
    for _ in range(100):
        nested = {"a": nested}
    with pytest.raises(CloudTrailError, match="64 deep"):
        parse(cbor2.dumps(nested))


def test_the_operation_is_in_the_path() -> None:
    assert operation_in("/service/CloudTrail_20131101/operation/GetTrail") == "GetTrail"
    assert operation_in("/service/CloudTrail_20131101") is None
