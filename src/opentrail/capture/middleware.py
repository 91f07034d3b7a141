"""The first public name of the middleware in `opentrail.capture.in_process`, for compatibility."""

from opentrail.capture.in_process import AsgiRecorder, Recording, Seen, WsgiRecorder, default_name

__all__ = ["AsgiRecorder", "Recording", "Seen", "WsgiRecorder", "default_name"]
