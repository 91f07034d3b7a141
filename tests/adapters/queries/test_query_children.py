"""A query's process that ends early is an error, not a result."""

from __future__ import annotations

import asyncio

import pytest

from opentrail.adapters.queries.query_children import _outcome
from opentrail.core.errors import QueryFailed, StatementRefused
from tests.fakes import asynchronous


def lines(*parts: bytes) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    for part in parts:
        reader.feed_data(part)
    reader.feed_eof()
    return reader


async def no_files(name: str, _number: int) -> None:
    raise AssertionError(name)


_COLUMNS = b'{"columns":[["n","bigint"]]}\n'


@pytest.mark.parametrize(
    ("parts", "error"),
    [
        ((), QueryFailed),
        ((_COLUMNS,), QueryFailed),
        ((b'{"refused":"line 1:8: no"}\n',), StatementRefused),
        ((_COLUMNS, b'{"failed":"Division by zero"}\n'), QueryFailed),
    ],
)
@asynchronous
async def test_no_outcome_is_an_error(parts: tuple[bytes, ...], error: type[Exception]) -> None:
    with pytest.raises(error):
        await _outcome(lines(*parts), lambda _: None, no_files)


@asynchronous
async def test_columns_come_before_the_outcome() -> None:
    columns: list[tuple[str, str]] = []
    done: list[int] = []
    printed = lines(_COLUMNS, b'{"progress":42}\n{"outcome":{"rows":1,"events":2,"bytes":3}}\n')
    found = await _outcome(printed, columns.extend, no_files, done.append)
    assert done == [42]
    assert (columns, found.rows, found.events, found.bytes) == ([("n", "bigint")], 1, 2, 3)
