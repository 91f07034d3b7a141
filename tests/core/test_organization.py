"""The organization in the configuration, valid and refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail.core.errors import UsageError
from opentrail.core.organization import Organization, read_organization

MANAGEMENT, MEMBER = "111111111111", "222222222222"
TABLE = {"id": "o-a1b2c3d4e5", "management_account": MANAGEMENT, "accounts": [MEMBER]}


def test_management_account_is_an_account_of_its_organization() -> None:
    expected = Organization("o-a1b2c3d4e5", MANAGEMENT, frozenset({MANAGEMENT, MEMBER}))
    assert read_organization(TABLE, "organization") == expected
    listed = {**TABLE, "accounts": [MEMBER, MANAGEMENT]}
    assert read_organization(listed, "organization") == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"id": "a1b2c3d4e5"}, "id must be 'o-' with 10 to 32 lowercase letters and digits"),
        ({"id": "o-A1b2c3d4e5"}, "id must be"),
        ({"id": "o-a1b2c3d4e5/x"}, "id must be"),
        ({"id": None}, "id must be"),
        ({"management_account": "1"}, "management_account must be a string of 12 digits, not '1'"),
        ({"management_account": 111111111111}, "management_account must be"),
        ({"accounts": MEMBER}, "accounts must be a list of account ids"),
        ({"accounts": None}, "accounts must be a list"),
        ({"accounts": [222222222222]}, "each of accounts must be a string of 12 digits"),
        ({"accounts": ["٢" * 12]}, "each of accounts must be"),
        ({"accounts": [MEMBER, MEMBER]}, f"accounts has '{MEMBER}' more than once"),
        ({"members": []}, "has an unknown key 'members'"),
    ],
)
def test_a_wrong_value_is_named_by_its_key(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_organization({**TABLE, **changed}, "organization in opentrail.toml")
    assert "organization in opentrail.toml" in str(caught.value)
    assert expected in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner)
)


@pytest.mark.slow
@given(st.one_of(JSON, st.dictionaries(st.sampled_from([*TABLE, "other"]), JSON)))
def test_any_value_is_an_organization_or_wrong_use(value: Any) -> None:
    try:
        found = read_organization(value, "organization")
    except UsageError:
        return
    assert found.management_account in found.accounts


@pytest.mark.slow
@given(st.sets(st.from_regex(r"[0-9]{12}", fullmatch=True).filter(str.isascii), min_size=1))
def test_every_listed_account_is_in_it(accounts: set[str]) -> None:
    table = {**TABLE, "accounts": sorted(accounts)}
    assert read_organization(table, "organization").accounts == accounts | {MANAGEMENT}
