"""What all client connections of the endpoint share."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from opentrail.capture.proxy.asgi import AnswerApiCall
from opentrail.capture.proxy.connections import Connections
from opentrail.capture.proxy.gate import Gate
from opentrail.capture.proxy.upstream import Upstreams
from opentrail.capture.record.head import Choice
from opentrail.capture.record.networks import Networks
from opentrail.capture.record.recorder import Recorder
from opentrail.metrics import Metrics
from opentrail.ports.clock import Clock
from opentrail.wire.routing import Router


@dataclass(slots=True)
class Endpoint(Connections):
    """Settings and state that all connections share."""

    recorder: Recorder
    router: Router
    upstreams: Upstreams
    answer_api_call: AnswerApiCall
    clock: Clock
    metrics: Metrics
    tls: ssl.SSLContext | None = None
    #: Verifies callers; None: everybody is whom the access key id says.
    gate: Gate | None = None
    #: Returns what waits for what others know of a key, None if there is nothing to wait for; no
    #: others are asked without it.
    meet: Callable[[str], Awaitable[None] | None] | None = None
    #: Trusted proxies; None: there are none.
    networks: Networks | None = None
    #: Decides which calls are recorded; None: all are.
    choice: Choice | None = None
    #: Seconds of silence of an upstream (a Lambda may run for 15 minutes).
    answer_seconds: float = 910.0

    def count_open(self) -> None:
        self.metrics.open_connections.set(len(self.connections))

    def count_closed(self) -> None:
        self.metrics.idle_closed.inc()

    def count_refused(self) -> None:
        self.metrics.refused.labels("connections").inc()
