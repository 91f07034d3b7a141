"""Clients that call a server continuously."""

from __future__ import annotations

import http.client
import json
import threading
import time
from dataclasses import dataclass, field
from operator import itemgetter

from opentrail.commands.sandbox import ADMIN_KEY_ID
from tests.live.processes import TIMEOUT_SECONDS, unthrottled

CLIENTS = 8
PACE = 45  # calls a second of one client


@dataclass
class Load:
    """Clients that call until they are stopped, and remember the answers."""

    port: int
    prefix: str
    key: str = ADMIN_KEY_ID
    clients: int = CLIENTS
    answered: set[str] = field(default_factory=set)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        for number in range(self.clients):
            thread = threading.Thread(target=self._call_on, args=(number,), daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(2 * TIMEOUT_SECONDS)  # a throttled call may take as long
            assert not thread.is_alive()

    def _call_on(self, client: int) -> None:
        connection: http.client.HTTPConnection | None = None
        count = 0
        next_call = time.monotonic()
        while not self._stopped.is_set():
            count += 1
            name = f"{self.prefix}-{client}-{count}-{'data' if count % 3 == 0 else 'user'}"
            try:
                connection = connection or http.client.HTTPConnection(
                    "127.0.0.1", self.port, timeout=10
                )
                if call(connection, name, self.key):
                    self.answered.add(name)
            except (OSError, http.client.HTTPException):
                connection = None  # the server is dead; this thread ends soon
                self._stopped.wait(0.02)
            next_call = max(next_call + 1 / PACE, time.monotonic() - 1)
            self._stopped.wait(max(0.0, next_call - time.monotonic()))


def call(connection: http.client.HTTPConnection, name: str, key: str) -> bool:
    """Sends CreateUser or PutItem, with retries like an SDK's; returns whether it succeeded."""
    service, headers = "iam", {"Content-Type": "application/x-www-form-urlencoded"}
    body = f"Action=CreateUser&Version=2010-05-08&UserName={name}"
    if name.endswith("data"):
        service = "dynamodb"
        headers = {
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Target": "DynamoDB_20120810.PutItem",
        }
        body = json.dumps({"TableName": name, "Item": {"id": {"S": "x"}}})
    scope = f"{key}/20200101/us-east-1/{service}/aws4_request"
    headers["Authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature={'0' * 64}"
    )

    def once() -> tuple[int, bytes]:
        connection.request("POST", "/", body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()

    status, _ = unthrottled(once, itemgetter(1))
    return status == 200
