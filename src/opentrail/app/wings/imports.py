"""The wing that imports files of events, those of this server's own trails among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from opentrail.api.services import Services
from opentrail.api.v1.administration import ImportedFiles
from opentrail.app.background import run_beside
from opentrail.app.known_positions import mark_imports
from opentrail.app.wing import Core, Missing, Wing
from opentrail.app.wings.regained import KeptHistory, Regaining
from opentrail.imports.service import Imports, OnRead


def start(core: Core) -> Wing:
    """Takes files over the API, and lost events from log files that trails have noted."""
    engines = core.engines
    imports = Imports(
        core.data.history,
        engines.source,
        engines.store,
        partial(mark_imports, engines.control),
        engines.site.imports,
    )
    core.stack.push_async_callback(imports.close)

    async def take(body: AsyncIterator[bytes], on_read: OnRead | None = None) -> dict[str, Any]:
        """Imports files; refuses if event history is not here, or others would lack the events."""
        await engines.site.require_importable()
        return await imports.take(body, on_read)

    regaining = Regaining(
        core.worker_control, core.objects, core.worker_journal, engines.clock, take, core.account
    )

    if engines.site.keeps_history:
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
