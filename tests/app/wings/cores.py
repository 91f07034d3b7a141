"""A core without calls, for the tests of wings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from opentrail.app.core import core_of
from opentrail.app.wing import Core
from opentrail.settings import Settings
from tests.app.opened import opened_engines
from tests.factories import ACCOUNT


@asynccontextmanager
async def a_core(folder: Path, **settings: Any) -> AsyncIterator[Core]:
    """Opens the engines of a server on an empty folder."""
    asked = Settings(data_dir=folder, upstream={"": "http://127.0.0.1:9"}, **settings)
    async with opened_engines(asked) as (stack, engines, data):
        yield core_of(
            stack, engines, data, lambda: ACCOUNT, "http://127.0.0.1:4747", "http://127.0.0.1:4748"
        )
