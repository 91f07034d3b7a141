"""Trusted sources of the caller's address, and the entrance of a call."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.record.client_address import Networks, VpcEndpoint, network

PROXIES = [network("10.0.0.0/8"), network("fd00::/8")]


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("fd00::1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "203.0.113.9:5123", "203.0.113.9"),
        ("10.0.0.1", "[2001:db8::1]:5123", "2001:db8::1"),
        ("10.0.0.1", "2001:db8::1", "2001:db8::1"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "", "10.0.0.1"),
        ("10.0.0.1", "unknown", "10.0.0.1"),
        ("10.0.0.1", "6.6.6.6, <script>", "10.0.0.1"),
        ("203.0.113.1", "6.6.6.6", "203.0.113.1"),
        ("not an address", "6.6.6.6", "not an address"),
    ],
)
def test_only_a_trusted_proxy_sets_the_callers_address(
    peer: str, forwarded: str, client: str
) -> None:
    assert Networks(PROXIES).client_of(peer, {"x-forwarded-for": forwarded}) == client


@given(st.text())
def test_without_trusted_proxies_nothing_changes_the_address(forwarded: str) -> None:
    assert Networks().client_of("10.0.0.1", {"x-forwarded-for": forwarded}) == "10.0.0.1"


@given(st.text())
def test_a_caller_cannot_hide_behind_forwarded_headers(forwarded: str) -> None:
    headers = {"x-forwarded-for": f"{forwarded}, 203.0.113.9"}
    assert Networks(PROXIES).client_of("10.0.0.1", headers) == "203.0.113.9"


def test_the_first_matching_endpoint_is_used() -> None:
    one = VpcEndpoint("vpce-1", (network("10.1.0.0/16"),), "210987654321")
    all_ = VpcEndpoint("vpce-2", (network("10.0.0.0/8"), network("fd00::/8")))
    networks = Networks(endpoints=[one, all_])
    assert networks.endpoint_of("10.1.2.3") == one
    assert networks.endpoint_of("10.2.2.3") == networks.endpoint_of("fd00::7") == all_
    assert networks.endpoint_of("203.0.113.9") is None
    assert Networks().endpoint_of("10.1.2.3") is None


def test_an_invalid_network_is_refused() -> None:
    for text in ("10.0.0.1/8", "host", ""):
        with pytest.raises(ValueError, match=r"network|address|host bits"):
            network(text)
