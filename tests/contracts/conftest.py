"""Parts shared by contracts over AWS's services."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.processes import moto_server


@pytest.fixture(scope="module")
def moto_url() -> Iterator[str]:
    """A moto server for each module."""
    with moto_server() as url:
        yield url
