"""Clients of services: one for each Region, created once; errors have their codes."""

from __future__ import annotations

import asyncio
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import botocore.exceptions
import pytest

from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.services import (
    CloudWatchLogGroups,
    EventBridgeBus,
    KmsKeys,
    ServiceClients,
    SnsTopics,
    _rejected,
)
from opentrail.core.errors import ServiceError, ServiceMissing
from opentrail.ports.services import BusEvent, LogEvent
from tests.factories import MOMENT
from tests.fakes import asynchronous

NOWHERE = "http://127.0.0.1:9"


def clients(asked: list[tuple[str, str]]) -> ServiceClients:
    def access(service: str, region: str) -> S3Access:
        asked.append((service, region))
        return S3Access(NOWHERE, "AKIAEXAMPLE", "secret", region)

    return ServiceClients(access)


def refusing(code: str) -> Any:
    def work(client: Any) -> None:
        raise botocore.exceptions.ClientError({"Error": {"Code": code, "Message": "no"}}, "Op")

    return work


@asynchronous
async def test_each_service_and_region_has_one_client() -> None:
    made = clients([])
    names = [("sns", "us-east-1"), ("sns", "eu-west-1"), ("logs", "us-east-1")]
    got = await asyncio.gather(
        *(made.call(service, region, id, "it") for service, region in names * 3)
    )
    assert len(set(got)) == 3


@asynchronous
async def test_other_credentials_make_another_client() -> None:
    keys = iter(["AKIAFIRST", "AKIAFIRST", "AKIASECOND"])
    made = ServiceClients(lambda _service, region: S3Access("http://x", next(keys), "s", region))

    def key_of(sns: Any) -> str:
        return str(sns._request_signer._credentials.access_key)

    found = [await made.call("sns", "us-east-1", key_of, "it") for _ in range(3)]
    assert found == ["AKIAFIRST", "AKIAFIRST", "AKIASECOND"]


@asynchronous
async def test_a_client_signs_for_the_requested_region() -> None:
    region = await clients([]).call("sns", "eu-west-1", lambda sns: sns.meta.region_name, "it")
    assert region == "eu-west-1"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("NotFound", ServiceMissing),
        ("NotFoundException", ServiceMissing),
        ("ResourceNotFoundException", ServiceMissing),
        ("AuthorizationError", ServiceError),
        ("Throttling", ServiceError),
    ],
)
@asynchronous
async def test_refusal_has_its_code_and_names_the_resource(
    code: str, kind: type[ServiceError]
) -> None:
    with pytest.raises(ServiceError, match="the topic") as caught:
        await clients([]).call("sns", "us-east-1", refusing(code), "the topic")
    assert type(caught.value) is kind
    assert caught.value.code == code


@asynchronous
async def test_unserved_calls_reach_no_other_upstream() -> None:
    nobody = ServiceClients(lambda service, region: S3Access(None, "AKIAEXAMPLE", "secret"))
    with pytest.raises(ServiceError, match="--upstream sns=URL") as caught:
        await SnsTopics(nobody).publish("arn:aws:sns:us-east-1:1:topic", "subject", "message")
    assert caught.value.code == "NoUpstream"


@pytest.mark.slow
@asynchronous
async def test_a_missing_service_is_a_service_error() -> None:
    groups = CloudWatchLogGroups(clients([]))
    with pytest.raises(ServiceError, match="my-group/my-stream") as caught:
        await groups.create_stream("arn:aws:logs:us-east-1:1:log-group:my-group:*", "my-stream")
    assert caught.value.code == "EndpointConnectionError"


@pytest.mark.parametrize(
    ("info", "refused"),
    [
        ({}, 0),
        ({"tooOldLogEventEndIndex": 3}, 3),
        ({"expiredLogEventEndIndex": 4, "tooOldLogEventEndIndex": 2}, 4),
        ({"tooNewLogEventStartIndex": 8}, 2),
        ({"tooOldLogEventEndIndex": 3, "tooNewLogEventStartIndex": 8}, 5),
        ({"tooOldLogEventEndIndex": 10}, 10),
    ],
    ids=str,
)
def test_events_outside_the_streams_times_are_counted(info: dict[str, int], refused: int) -> None:
    assert _rejected(info, 10) == refused


class _Nobody(BaseHTTPRequestHandler):
    """Gives every request an empty answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answers."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *arguments: Any) -> None:
        """Says nothing."""


@pytest.mark.live
@asynchronous
async def test_answer_of_another_server_is_not_a_success() -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Nobody)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    made = ServiceClients(lambda service, region: S3Access(url, "AKIAEXAMPLE", "secret", region))
    bus, keys = EventBridgeBus(made), KmsKeys(made)
    event = LogEvent(MOMENT, "{}")
    group = "arn:aws:logs:us-east-1:1:log-group:my-group"
    try:
        assert await bus.rule_states("us-east-1") == frozenset()
        for refused in (
            bus.put("us-east-1", [BusEvent("aws.iam", "kind", MOMENT, "{}")]),
            keys.arn_of("alias/x", "us-east-1"),
            SnsTopics(made).publish("arn:aws:sns:us-east-1:1:topic", "subject", "message"),
            CloudWatchLogGroups(made).holds(group, "stream", event),
        ):
            with pytest.raises(ServiceError):
                await refused
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.slow
@asynchronous
async def test_the_cache_of_clients_is_limited() -> None:
    made = clients([])
    first = [
        await made.call("sns", f"region-{number}", lambda sns: sns, "it") for number in range(40)
    ]
    again = [
        await made.call("sns", f"region-{number}", lambda sns: sns, "it") for number in (39, 0)
    ]
    assert again[0] is first[39]
    assert again[1] is not first[0]


@asynchronous
async def test_an_invalid_region_is_a_service_error() -> None:
    with pytest.raises(ServiceError, match="the topic"):
        await clients([]).call("sns", "us_east_1", id, "the topic")
