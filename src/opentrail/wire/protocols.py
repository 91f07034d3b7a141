"""Bodies, headers and paths as parameters by the model's member names, for all protocols.

Decoded values are str, bool, int, float, None, `datetime` (timestamps), `bytes` (blobs), lists and
dicts. Members that a model does not have are decoded under their wire name.
"""

from opentrail.wire.requests import decode_request
from opentrail.wire.responses import WireError, decode_answer, read_error, request_id

__all__ = [
    "WireError",
    "decode_answer",
    "decode_request",
    "read_error",
    "request_id",
]
