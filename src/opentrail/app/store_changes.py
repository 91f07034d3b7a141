"""Changes that other servers make in a shared control store."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from opentrail.core.errors import OpentrailError
from opentrail.ports.control import ControlStore

log = logging.getLogger(__name__)

#: Seconds between two checks: a key that one server revokes is refused by all within a second.
_INTERVAL = 0.25

Reload = Callable[[], Awaitable[object]]


async def follow_changes(
    control: ControlStore,
    require_own_store: Callable[[], Awaitable[None]],
    reloads: Mapping[str, Reload],
) -> None:
    """Reloads the documents of each kind after a change, until it is cancelled.

    While they cannot be read, what is in memory stays in effect; that is logged once. It also does
    if the store was emptied or is another one: without its keys, calls would not be verified.

    Args:
        control: the control store.
        require_own_store: raises an error if the store is not this server's.
        reloads: kind → what reads its documents again.
    """
    known: dict[str, str] = {}
    is_failing = False
    while True:
        await asyncio.sleep(_INTERVAL)
        errors: list[str] = []
        try:
            changed = await _changed(control, require_own_store, reloads, known)
        except OpentrailError as error:
            changed = {}
            errors.append(str(error))
        except Exception as error:  # a bug must neither end this nor go unnoticed
            log.exception("changes by other servers could not be read")
            changed = {}
            errors.append(repr(error))
        for kind, revision in changed.items():
            try:
                await reloads[kind]()
            except OpentrailError as error:
                errors.append(f"{kind}: {error}")
            except Exception as error:  # the others are read all the same
                log.exception("changes by other servers could not be read", extra={"kind": kind})
                errors.append(f"{kind}: {error!r}")
            else:
                known[kind] = revision
        if errors and not is_failing:
            log.error(
                "changes by other servers cannot be read; the last known state stays in effect",
                extra={"errors": errors},
            )
        if is_failing and not errors:
            log.info("changes by other servers are read again")
        is_failing = bool(errors)


async def _changed(
    control: ControlStore,
    require_own_store: Callable[[], Awaitable[None]],
    kinds: Collection[str],
    known: Mapping[str, str],
) -> dict[str, str]:
    """Returns the revisions of the kinds that have changed since the known ones."""
    # Read before the reload: what is changed during it is another revision the next time.
    revisions = await control.revisions(list(kinds))
    changed = {kind: revisions[kind] for kind in kinds if known.get(kind) != revisions[kind]}
    if changed:
        await require_own_store()
    return changed
