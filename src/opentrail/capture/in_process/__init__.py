"""Recording from within a process: a botocore hook, and middleware for ASGI and WSGI.

    app = AsgiRecorder(app, "orders.example.com", ServerShipper.of_data_dir("opentrail-data"))

A request to `POST /orders/17/items` becomes an event. `describe` returns its name (by default from
method and path, `PostOrdersItems`); its parameters are query and JSON body with secrets hidden, and
its error code is the status of the answer.
"""

from opentrail.capture.in_process.hooks import BotocoreHook
from opentrail.capture.in_process.middleware import (
    AsgiRecorder,
    Recording,
    Seen,
    WsgiRecorder,
    default_name,
)
from opentrail.capture.in_process.shipping import ServerShipper

__all__ = [
    "AsgiRecorder",
    "BotocoreHook",
    "Recording",
    "Seen",
    "ServerShipper",
    "WsgiRecorder",
    "default_name",
]
