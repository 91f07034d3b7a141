"""The AWS endpoint: passes calls on to their upstreams and back, and has each one recorded.

Imports point one way, from the first of these to the last:

    client_connection   receives requests
    serving             the main road of a call, in order
    uploads, rewriting  the exceptions: uploads, tunnels, changed answers
    call                one call and its record
    endpoint            the state and settings that connections share, and opentrail's own API
    connections, gate, upstream, refusals, bodies, head

`connections` limits their number, `gate` verifies callers, and `refusals` answers the others.
"""

from opentrail.capture.proxy.client_connection import ClientConnection
from opentrail.capture.proxy.endpoint import Endpoint
from opentrail.capture.proxy.upstream import Upstream, Upstreams

__all__ = ["ClientConnection", "Endpoint", "Upstream", "Upstreams"]
