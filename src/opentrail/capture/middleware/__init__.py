"""One's own API in CloudTrail records: middleware for ASGI and WSGI applications.

    app = AsgiRecorder(app, "orders.example.com", ServerShipper.of_data_dir("opentrail-data"))

A request to `POST /orders/17/items` becomes an event: its name is what `describe` makes of it (by
default method and path, `PostOrdersItems`), its parameters are query and JSON body with secrets
hidden, its error the status of the answer.
"""

from opentrail.capture.middleware.asgi import AsgiRecorder
from opentrail.capture.middleware.recording import Recording, Seen, default_name
from opentrail.capture.middleware.wsgi import WsgiRecorder

__all__ = ["AsgiRecorder", "Recording", "Seen", "WsgiRecorder", "default_name"]
