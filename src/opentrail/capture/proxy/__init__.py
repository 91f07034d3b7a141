"""The AWS endpoint: streams calls to their upstreams and back, and has each one recorded."""

from opentrail.capture.proxy.client import ClientConnection
from opentrail.capture.proxy.endpoint import Endpoint
from opentrail.capture.proxy.upstream import Upstream, Upstreams

__all__ = ["ClientConnection", "Endpoint", "Upstream", "Upstreams"]
