"""The exchange between a client and its upstream."""

from tests.factories import KEY, a_query_request, an_exchange


def test_an_exchange_is_whole_by_default() -> None:
    exchange = an_exchange()
    assert exchange.failure is None
    assert exchange.origin == "recorder"
    assert exchange.notes == {}


def test_two_exchanges_do_not_share_their_notes() -> None:
    one, other = an_exchange(), an_exchange()
    one.notes["requestBody"] = {"length": 1}
    assert other.notes == {}


def test_signer_and_operation_come_from_the_request() -> None:
    exchange = an_exchange(a_query_request("sts", "GetCallerIdentity", "2011-06-15"))
    assert exchange.credential is not None
    assert exchange.credential.access_key_id == KEY
    assert exchange.route.operation == "GetCallerIdentity"
