"""The AWS endpoint: passes calls on to their upstreams and back, and has each one recorded.

Imports point one way; each module may also import those further right or below:

    client ─▶ request_handler ─▶ upstream_exchange ─▶ resigning ─▶ call_context
                                                                        │
         head ◀─ bodies ◀─ upstream ◀─ connections ◀─ endpoint ◀─ channel

`client` receives requests, `request_handler` answers one, `upstream_exchange` passes it on and its
answer back, `call_context` collects what its record needs. `channel` is the client as an answer
sees it; `endpoint` is what all connections share, `connections` how many there may be.
"""

from opentrail.capture.proxy.client import ClientConnection
from opentrail.capture.proxy.endpoint import Endpoint
from opentrail.capture.proxy.upstream import Upstream, Upstreams

__all__ = ["ClientConnection", "Endpoint", "Upstream", "Upstreams"]
