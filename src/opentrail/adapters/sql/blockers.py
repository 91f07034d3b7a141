"""Ends sessions on PostgreSQL whose client is silent while they block a transaction."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import closing
from typing import Any

log = logging.getLogger(__name__)

#: The sessions that a session waits for, directly or not, that wait for their own client. They
#: belong to the same user, and have written something or are opentrail's own: a copy by `pg_dump`
#: is not ended because its disk is slow. One that waits for a standby does not wait for its client.
_END_SILENT_BLOCKERS = """
    WITH RECURSIVE blocker (pid) AS (
        SELECT unnest(pg_blocking_pids(%s))
        UNION SELECT unnest(pg_blocking_pids(blocker.pid)) FROM blocker
    )
    SELECT pid, application_name, client_addr::text, pg_terminate_backend(pid)
    FROM blocker JOIN pg_stat_activity USING (pid)
    WHERE usename = current_user AND wait_event_type = 'Client'
    AND (backend_xid IS NOT NULL OR application_name = current_setting('application_name'))
    AND state_change < clock_timestamp() - make_interval(secs => %s)
"""


class SilentBlockers:
    """Sessions whose client was paused, cut off or lost power within a transaction.

    PostgreSQL ends most of them by `idle_in_transaction_session_timeout`. That does not hold while
    a message has arrived in part, or while the client does not read the answer.

    Args:
        connect: opens a connection of the same user.
        seconds: how long a client may be silent that blocks others.
    """

    def __init__(self, connect: Callable[[], Any], seconds: float) -> None:
        self._connect = connect
        self._seconds = seconds
        #: Held by the thread that looks for them.
        self._looking = threading.Lock()

    def end(self, blocked: int) -> None:
        """Ends what blocks a session, in a thread: PostgreSQL may not answer.

        Args:
            blocked: the process id of the session on PostgreSQL.
        """
        if self._looking.acquire(blocking=False):
            threading.Thread(
                target=self._end, args=[blocked], name="silent blockers", daemon=True
            ).start()

    def _end(self, blocked: int) -> None:
        try:
            with closing(self._connect()) as connection:
                ended = connection.execute(_END_SILENT_BLOCKERS, [blocked, self._seconds])
                for pid, application, address, _ in ended.fetchall():
                    log.warning(
                        "a session that blocked others was ended: its client was silent",
                        extra={"pid": pid, "application": application, "address": address},
                    )
        except Exception as error:  # noqa: BLE001 - the driver is optional; the next look may succeed
            log.debug("blocking sessions are not known", extra={"error": str(error)})
        finally:
            self._looking.release()
