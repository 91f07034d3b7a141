"""The wing that imports files of events, those of this server's own trails among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from opentrail.api.operation import Services
from opentrail.api.v1.administration import ImportedFiles
from opentrail.app.background import run_beside
from opentrail.app.known_positions import mark_imports
from opentrail.app.wing import Core, Missing, Wing
from opentrail.app.wings.regained import KeptHistory, Regaining
from opentrail.core.errors import NoHistory, Unsupported
from opentrail.imports.service import Imports, OnRead

if TYPE_CHECKING:
    from opentrail.app.cluster import Cluster


def start(core: Core) -> Wing:
    """Takes files over the API, and lost events from log files that trails have noted."""
    engines, settings = core.engines, core.settings
    imports = Imports(
        core.data.history,
        engines.source,
        engines.store,
        partial(mark_imports, engines.control),
        engines.imports,
    )
    core.stack.push_async_callback(imports.close)
    if engines.imports is not None and settings.has_history:
        run_beside(core.stack, engines.imports.follow(engines.store))

    async def take(body: AsyncIterator[bytes], on_read: OnRead | None = None) -> dict[str, Any]:
        """Imports files; refuses if event history is not here, or others would lack the events."""
        if not settings.has_history:
            raise NoHistory
        if settings.history_cache is not None:
            raise Unsupported("importing files through a server with --history-cache")
        if engines.imports is None and await _are_several(engines.cluster):
            raise Unsupported("importing files into several servers without --files")
        return await imports.take(body, on_read)

    regaining = Regaining(
        core.worker_control, core.objects, core.worker_journal, engines.clock, take, core.account
    )

    if settings.has_history:
        kept = KeptHistory(
            engines.store,
            engines.history.follower,
            engines.source,
            engines.journal,
            engines.control,
            engines.clock,
            engines.inventory.installation,
            take,
            core.account,
        )
        run_beside(core.stack, kept.run())

    async def regain() -> None:
        """Begins once event history has all that the journal has."""
        await engines.history.follower.until_visible(engines.journal.head)
        await regaining.run()

    def groups(_services: Services, _missing: Missing) -> Sequence[object]:
        return (ImportedFiles(take),)

    return Wing(groups=groups, followers=(regain,))


async def _are_several(cluster: Cluster | None) -> bool:
    return cluster is not None and len(await cluster.servers()) > 1
