"""Readers of values: the accepted ones, and the names in refusals."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from opentrail import setting_values
from opentrail.core.errors import UsageError

Reader = Callable[[Any, str], Any]
READERS: dict[str, Reader] = {
    name: reader for name, reader in vars(setting_values).items() if name.startswith("read_")
}
#: Reader → a value in a flag or a file, and its parsed value.
GOOD: dict[str, tuple[Any, Any]] = {
    "read_networks": ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
    "read_private_networks": (["192.168.0.0/16"], ("192.168.0.0/16",)),
    "read_insights_types": (["new-region", "new-api"], ("new-api", "new-region")),
    "read_database": ("postgresql://HOST/d", "postgresql://HOST/d"),
    "read_place": ("s3://bucket/a-prefix", "s3://bucket/a-prefix"),
    "read_console_url": ("https://Console.example:443", "https://console.example"),
    "read_record": ("all", "all"),
    "read_size": ("1.5 gb", 1_500_000_000),
    "read_issuer": ("https://issuer", "https://issuer"),
    "read_text": ("a", "a"),
    "read_secret": ("s3cret", "s3cret"),
    "read_collector": ("http://127.0.0.1:4318", "http://127.0.0.1:4318"),
    "read_webhook": ("https://a/b?token=c", "https://a/b?token=c"),
    "read_headers": ("A=b=, C=d", {"A": "b=", "C": "d"}),
    "read_upstreams": (["http://a", "s3=https://b"], {"": "http://a", "s3": "https://b"}),
    "read_domains": (["S3.example.org", "b"], ("s3.example.org", "b")),
    "read_file": (__file__, Path(__file__)),
    "read_number": ("1.5", 1.5),
}
WRONG_URLS = ("http://[", "http://a:b", "http://me:s3cret@a:99999")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda value: st.lists(value, max_size=3) | st.dictionaries(st.text(), value, max_size=3),
    max_leaves=5,
)


@pytest.mark.parametrize("name", sorted(READERS))
def test_a_valid_value_is_read(name: str) -> None:
    value, expected = GOOD[name]
    assert READERS[name](value, "OPENTRAIL_X") == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, url) for name in ("read_collector", "read_webhook") for url in WRONG_URLS),
        pytest.param("read_number", 10**400, id="a large number"),
        pytest.param("read_file", "x" * 5_000, id="a long name"),
    ],
)
def test_a_strange_value_is_refused_by_name(name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=r"^OPENTRAIL_X must ") as refused:
        READERS[name](value, "OPENTRAIL_X")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("name", sorted(READERS))
@given(value=VALUES)
def test_any_other_value_is_refused_by_name(name: str, value: Any) -> None:
    message = "OPENTRAIL_X must "
    try:
        READERS[name](value, "OPENTRAIL_X")
    except UsageError as error:
        message = str(error)
    assert message.startswith("OPENTRAIL_X must ")
