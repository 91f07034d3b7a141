"""Requests of a custom API as records."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.in_process import AsgiRecorder, Seen, default_name
from opentrail.core.errors import UsageError
from tests.capture.in_process.shop import SOURCE, Collector, ask, orders


def test_a_request_becomes_a_record_with_its_source() -> None:
    found = Collector()
    app = AsgiRecorder(
        orders,
        SOURCE,
        found,
        identify=lambda seen: {"type": "IAMUser", "userName": seen.headers["user-agent"]},
    )
    body = json.dumps({"item": "book", "cardPassword": "hunter22", "n": [1, {"authToken": "t"}]})
    sent = ask(app, "POST", "/orders/17/items", body.encode(), b"dry=1&access_token=zzz")
    assert [m["type"] for m in sent] == ["http.response.start", *["http.response.body"] * 2]
    (record,) = found.records
    assert record["eventSource"] == SOURCE
    assert record["eventName"] == "PostOrdersItems"
    assert record["userIdentity"]["userName"] == "shop/1.0"
    assert record["sourceIPAddress"] == "192.0.2.9"
    assert record["readOnly"] is False
    assert record["requestID"] == "r1"
    parameters = record["requestParameters"]
    assert parameters["path"] == "/orders/17/items"
    assert parameters["body"]["item"] == "book"
    assert parameters["query"]["dry"] == "1"
    for secret in ("hunter22", "zzz", '"t"'):
        assert secret not in json.dumps(record)


def test_oversized_parts_are_marked() -> None:
    found = Collector()
    app = AsgiRecorder(orders, SOURCE, found)
    ask(app, "POST", "/orders", json.dumps({"note": "x" * 200_000}).encode())
    ask(app, "POST", "/orders", json.dumps({"note": "x" * 2_000_000}).encode())
    long, longer = (record["requestParameters"] for record in found.records)
    assert long["omitted"] is True
    assert long["originalSize"] > 200_000
    assert "body" not in longer
    assert longer["bodyBytes"] > 2_000_000


def test_an_indescribable_request_is_recorded() -> None:
    def identify(_seen: Seen) -> dict[str, Any]:
        raise KeyError("no session")

    found = Collector()
    ask(AsgiRecorder(orders, SOURCE, found, identify=identify), "POST", "/orders")
    (record,) = found.records
    assert record["userIdentity"]["type"] == "Unknown"
    assert record["additionalEventData"]["opentrail"] == {"undescribed": "KeyError"}


@pytest.mark.parametrize("value", [None, "", 5, b"Name"])
@pytest.mark.parametrize("option", ["describe", "identify"])
def test_a_request_with_a_nonsensical_description_is_recorded(option: str, value: Any) -> None:
    found = Collector()
    app = AsgiRecorder(orders, "orders.example.com", found, **{option: lambda _seen: value})
    ask(app, "POST", "/orders/17", b"{}")
    (record,) = found.records
    assert record["eventName"] == "PostOrders"
    assert record["userIdentity"]["type"] == "Unknown"
    assert record["additionalEventData"]["opentrail"]["undescribed"] == "TypeError"


def test_secrets_of_a_custom_api_are_hidden() -> None:
    found = Collector()
    app = AsgiRecorder(orders, "orders.example.com", found)
    names = ("token", "secret", "api_key", "apiKey", "pwd", "passwd", "pin", "otp", "authorization")
    body = json.dumps(dict.fromkeys(names, "CANARY-1")).encode()
    query = "&".join(f"{name}=CANARY-1" for name in names).encode()
    ask(app, "POST", "/reset;password=CANARY-1", body, query)
    assert "CANARY-1" not in json.dumps(found.records)


def test_a_name_of_awss_teaches_nothing() -> None:
    """An operation of a custom API may have the name of STS's."""
    found = Collector()
    app = AsgiRecorder(orders, SOURCE, found, describe=lambda _: "AssumeRoleWithWebIdentity")
    ask(app, "POST", "/", json.dumps({"webIdentityToken": "a.b.c"}).encode())
    assert found.records[0]["userIdentity"]["type"] == "Unknown"
    assert found.records[0]["eventName"] == "AssumeRoleWithWebIdentity"


@pytest.mark.parametrize("source", ["iam.amazonaws.com", "orders", "", "a b.c", "x.amazonaws.com"])
def test_a_source_must_be_a_custom_domain(source: str) -> None:
    with pytest.raises(UsageError, match="event_source"):
        AsgiRecorder(orders, source, Collector())


@pytest.mark.hypothesis
@given(st.text(max_size=60))
def test_any_path_has_a_name(path: str) -> None:
    name = default_name(Seen("GET", path))
    assert name.startswith("Get")
    assert len(name.split()) == 1
