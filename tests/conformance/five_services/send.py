"""Sends a generated case with botocore: real serialisation, real SigV4, a real socket."""

import contextlib
import copy
import functools
import threading
from contextvars import ContextVar
from typing import Any, Literal
from xml.etree.ElementTree import ParseError

from botocore import xform_name
from botocore.awsrequest import AWSPreparedRequest
from botocore.client import BaseClient
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError
from botocore.session import Session

from tests.conformance.five_services.generate import Case

#: Operations that botocore cannot send to a custom endpoint, with the reason; none so far.
EXCEPTED: dict[tuple[str, str], str] = {}

AddressingStyle = Literal["path", "virtual", "auto"]

#: botocore's exceptions for answers that report an error or do not parse.
_ANSWERED = (ClientError, ResponseParserError, ParseError)

_user_agent: ContextVar[str] = ContextVar("user_agent")
_making_clients = threading.Lock()


def send(
    endpoint_url: str,
    case: Case,
    access_key: str,
    secret_key: str,
    *,
    addressing_style: AddressingStyle = "path",
) -> None:
    """Sends the case once and reads the whole answer.

    The request carries `User-Agent: opentrail-case/<number>`. Error answers and answers that
    do not parse are ignored; connection errors are raised.
    """
    with _making_clients:
        client = _client(
            endpoint_url, case.service, case.region, access_key, secret_key, addressing_style
        )
    method = getattr(client, xform_name(case.operation))
    mark = _user_agent.set(case.user_agent)
    try:
        with contextlib.suppress(*_ANSWERED):
            _drain(method(**copy.deepcopy(case.params)))
    finally:
        _user_agent.reset(mark)


@functools.cache
def _session() -> Session:
    return Session()


@functools.cache
def _client(
    endpoint_url: str,
    service: str,
    region: str,
    access_key: str,
    secret_key: str,
    addressing_style: AddressingStyle,
) -> BaseClient:
    config = Config(
        parameter_validation=True,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": addressing_style},
        inject_host_prefix=False,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        connect_timeout=5,
        read_timeout=20,
        proxies={},
        max_pool_connections=16,
    )
    client = _session().create_client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        config=config,
    )
    # botocore writes its own user agent after before-sign; the header is never signed
    client.meta.events.register("before-send", _mark)
    return client


def _mark(request: AWSPreparedRequest, **_: object) -> None:
    request.headers["User-Agent"] = _user_agent.get()


def _drain(answer: dict[str, Any]) -> None:
    """Reads streamed answers to their end so that the connection can be used again."""
    for value in answer.values():
        if hasattr(value, "read"):
            value.read()
        elif hasattr(value, "close"):
            value.close()
