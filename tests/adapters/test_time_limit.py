"""Time limits of transactions: an overlong one ends, the next ones work."""

from __future__ import annotations

import psycopg
import pytest

from opentrail.adapters.sql.databases import TimeLimit
from tests.postgres import shared_server


@pytest.mark.slow
def test_slow_requests_are_cut_off() -> None:
    url, limit = shared_server().new_database(), TimeLimit()
    limit.connection = psycopg.connect(url)
    with pytest.raises(psycopg.OperationalError), limit.limited(0.2):
        limit.connection.execute("SELECT pg_sleep(60)")
    assert limit.has_expired
    with limit.limited(30):
        limit.connection = psycopg.connect(url)
        assert limit.connection.execute("SELECT 1").fetchone() == (1,)
    assert not limit.has_expired
    limit.connection.close()


def test_connecting_may_take_as_long_as_the_block() -> None:
    limit = TimeLimit()
    with limit.limited(9.5):
        assert limit.connect_seconds == 9
    with limit.limited(0.1):
        assert limit.connect_seconds == 2, "the client library knows no shorter time"
