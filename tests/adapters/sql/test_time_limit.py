"""Time limits of transactions: one that takes too long ends, the next ones work."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from opentrail.adapters.sql.time_limit import TimeLimits
from tests.postgres import shared_server


def an_engine() -> sa.Engine:
    url = sa.make_url(shared_server().new_database()).set(drivername="postgresql+psycopg")
    arguments = {"connect_timeout": 5}
    return sa.create_engine(url, pool_size=1, max_overflow=0, connect_args=arguments)


def test_what_takes_too_long_is_cut_off_and_the_connection_is_replaced() -> None:
    engine = an_engine()
    limits = TimeLimits(engine)
    with (
        pytest.raises(sa.exc.OperationalError) as caught,
        limits.limited(0.2),
        engine.connect() as connection,
    ):
        connection.execute(sa.text("SELECT pg_sleep(60)"))
    assert limits.caused(caught.value)
    with limits.limited(30), engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
    engine.dispose()


def test_other_errors_are_not_the_limits() -> None:
    engine = an_engine()
    limits = TimeLimits(engine)
    with (
        pytest.raises(sa.exc.ProgrammingError) as caught,
        limits.limited(30),
        engine.connect() as connection,
    ):
        connection.execute(sa.text("SELECT nothing FROM nowhere"))
    assert not limits.caused(caught.value)
    engine.dispose()
