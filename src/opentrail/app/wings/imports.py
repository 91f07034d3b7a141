"""The wing that imports files of events, those of this server's own trails among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Any

from opentrail.api.operation import Services
from opentrail.api.v1.administration import ImportedFiles
from opentrail.app.known_positions import mark_imports
from opentrail.app.wing import Core, Missing, Wing
from opentrail.app.wings.regained import Regaining
from opentrail.core.errors import NoHistory, Unsupported
from opentrail.imports.service import Imports


def start(core: Core) -> Wing:
    """Takes files over the API, and lost events from log files that trails have noted."""
    engines = core.engines
    imports = Imports(
        core.data.history,
        engines.source,
        engines.store,
        partial(mark_imports, engines.control),
    )
    core.stack.push_async_callback(imports.close)

    async def take(body: AsyncIterator[bytes]) -> dict[str, Any]:
        """Imports files; refuses if there is no event history, or others would lack the events."""
        if not core.settings.has_history:
            raise NoHistory
        if engines.cluster is not None and len(await engines.cluster.servers()) > 1:
            raise Unsupported("importing files while several servers share the journal")
        return await imports.take(body)

    regaining = Regaining(core.worker_control, core.objects, engines.journal, engines.clock, take)

    async def regain() -> None:
        """Begins once event history has all that the journal has."""
        await engines.history.follower.until_visible(engines.journal.head)
        await regaining.run()

    def groups(_services: Services, _missing: Missing) -> Sequence[object]:
        return (ImportedFiles(take),)

    return Wing(groups=groups, followers=(regain,))
