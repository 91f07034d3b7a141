"""Records of a search, page by page, until one answer has enough."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from opentrail.history import written_searches as module
from opentrail.history.event_history import Search
from opentrail.history.written_searches import read_newest
from tests.api.caller import filled
from tests.factories import some_records
from tests.fakes import asynchronous


@pytest.mark.parametrize(("wanted", "expected"), [(9, (5, None)), (3, (4, "2020-01-01T09:00:02Z"))])
def test_pages_are_read_lazily(
    monkeypatch: pytest.MonkeyPatch, wanted: int, expected: tuple[int, str | None]
) -> None:
    monkeypatch.setattr(module, "_PAGE_EVENTS", 2)
    taken: list[Mapping[str, Any]] = []

    def add(records: Iterator[Mapping[str, Any]]) -> bool:
        taken.extend(records)
        return len(taken) < wanted

    @asynchronous
    async def read() -> None:
        api = await filled(*some_records(5))
        assert await read_newest(api.history, Search(), add) == expected
        assert len(taken) == expected[0]

    read()
