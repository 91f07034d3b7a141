"""The field names in search expressions."""

from datetime import UTC, datetime

import pytest

from opentrail.core.expression import ExpressionError, parse
from opentrail.core.expression.tree import MEMBERS

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["userName", "USERNAME", "user"])
def test_a_name_is_read_in_any_case(name: str) -> None:
    assert parse(f"{name}=Mary", NOW) == parse("username=Mary", NOW)


@pytest.mark.parametrize("member", sorted(MEMBERS))
def test_members_of_a_record_can_be_compared(member: str) -> None:
    parse(f"{member}=a", NOW)
    with pytest.raises(ExpressionError):
        parse(f"{member}X=a", NOW)
