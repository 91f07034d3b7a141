"""The AWS endpoint: passes calls on to their upstreams and back, and has each one recorded.

Imports point one way; each module may also import those further right or below:

    client ─▶ serve ─▶ uploads, rewriting, own_api, tunnel ─▶ resigning ─▶ call
                                                                            │
             head ◀─ bodies ◀─ upstream ◀─ connections ◀─ endpoint ◀─ channel

`client` receives requests, and `serve` is the way of one, in the order in which things happen.
`call` is what is known of it; most calls need none of the four in between. `channel` is the client
as an answer sees it; `endpoint` is what all connections share, `connections` how many there
may be.
"""

from opentrail.capture.proxy.client import ClientConnection
from opentrail.capture.proxy.endpoint import Endpoint
from opentrail.capture.proxy.upstream import Upstream, Upstreams

__all__ = ["ClientConnection", "Endpoint", "Upstream", "Upstreams"]
