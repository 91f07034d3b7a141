"""The first public name of `ServerShipper`, kept for those who import it."""

from opentrail.capture.in_process.shipping import ServerShipper

__all__ = ["ServerShipper"]
