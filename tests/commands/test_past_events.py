"""Past events, which commands read from a server."""

from datetime import UTC, datetime

import pytest

from opentrail.commands.past_events import since_of
from opentrail.core.errors import UsageError


def test_a_time_may_be_so_long_ago() -> None:
    now = datetime(2026, 3, 31, 12, tzinfo=UTC)
    assert since_of("90d", now) == "2025-12-31T12:00:00Z"
    assert since_of("30m", now) == "2026-03-31T11:30:00Z"
    assert since_of("2020-01-01T09:00:00Z", now) == "2020-01-01T09:00:00Z"
    with pytest.raises(UsageError, match="--since must be such as 90d"):
        since_of("99999999d", now)
