"""The wing that imports files of events, those of this server's own trails among them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import NoReturn

from opentrail.api.operation import Services
from opentrail.api.v1.administration import ImportedFiles
from opentrail.app.known_positions import mark_imports
from opentrail.app.wing import Core, Missing, Wing
from opentrail.app.wings.regained import Regaining
from opentrail.core.errors import Unsupported
from opentrail.imports.service import Imports


def start(core: Core) -> Wing:
    """Takes files over the API, and lost events from log files that trails have noted."""
    engines = core.engines
    if engines.cluster is not None:
        return Wing(groups=lambda _services, _missing: (ImportedFiles(_refuse),))
    imports = Imports(
        core.data.history,
        engines.source,
        engines.store,
        partial(mark_imports, engines.control),
    )
    core.stack.push_async_callback(imports.close)
    regaining = Regaining(
        engines.control, core.objects, engines.journal, engines.clock, imports.take
    )

    async def regain() -> None:
        """Begins once event history has all that the journal has."""
        await engines.history.follower.until_visible(engines.journal.head)
        await regaining.run()

    def groups(_services: Services, _missing: Missing) -> Sequence[object]:
        return (ImportedFiles(imports.take),)

    return Wing(groups=groups, followers=(regain,))


async def _refuse(_body: AsyncIterator[bytes]) -> NoReturn:
    """Refuses an import: only this server's event history would have the events."""
    raise Unsupported("importing files on a server of a cluster")
