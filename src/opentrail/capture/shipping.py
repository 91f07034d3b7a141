"""The first public name of `ServerShipper`, for compatibility."""

from opentrail.capture.in_process.shipping import ServerShipper

__all__ = ["ServerShipper"]
