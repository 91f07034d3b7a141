"""The AWS endpoint: passes calls on to their upstreams and back, and has each one recorded.

Imports point one way, from the first of these to the last:

    client      receives requests
    serve       the way of a call, in the order in which things happen
    uploads, rewriting, own_api, tunnel: what most calls need nothing of
    resigning   signs a call for an upstream that checks its own host name
    call        what is known of a call
    channel     the client as an answer sees it
    endpoint    what all connections share, and how opentrail's own API is asked
    upstream, bodies, head

`connections` says how many there may be, `gate` who is let in, and `refusals` what is answered to
the others.
"""

from opentrail.capture.proxy.client_connection import ClientConnection
from opentrail.capture.proxy.endpoint import Endpoint
from opentrail.capture.proxy.upstream import Upstream, Upstreams

__all__ = ["ClientConnection", "Endpoint", "Upstream", "Upstreams"]
