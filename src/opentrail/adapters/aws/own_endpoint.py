"""This server's own endpoint, called by botocore."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TypeVar

import botocore.auth
import botocore.awsrequest
import botocore.config
import botocore.credentials
import botocore.httpsession
from botocore import xform_name

from opentrail.adapters.aws.object_store import S3Access
from opentrail.adapters.aws.services import translated
from opentrail.core.event import Json

if TYPE_CHECKING:
    from botocore.session import Session

T = TypeVar("T")

_TARGET = "com.amazonaws.cloudtrail.v20131101.CloudTrail_20131101"
#: Concurrent calls.
_CONCURRENT = 4
#: Seconds that a call may take.
_CALL_SECONDS = 60


class BotocoreEndpoint:
    """An `OwnEndpoint`: every call goes through the network and is recorded like any other.

    Args:
        access: returns address and credentials of the endpoint for calls of a service by a user of
            the web console; it has no address before it listens.
    """

    def __init__(self, access: Callable[[str, str | None], Awaitable[S3Access]]) -> None:
        self._access = access
        self._threads = ThreadPoolExecutor(_CONCURRENT, "own-endpoint")
        self._session: Session | None = None

    async def call(
        self,
        service: str,
        operation: str,
        region: str,
        caller: tuple[str, str | None],
        given: Json,
    ) -> Json:
        """Returns the answer to a call of any service."""
        agent, user = caller
        access = await self._access(service, user)

        def call() -> Json:
            client = self._client(access, service, region, agent)
            answer: Json = getattr(client, xform_name(operation))(**given)
            answer.pop("ResponseMetadata", None)
            return answer

        return await self._run(call, f"{service}:{operation}")

    async def cloudtrail(
        self, operation: str, region: str, caller: tuple[str, str | None], body: bytes
    ) -> tuple[int, bytes]:
        """Returns status and body of an answer of the CloudTrail API."""
        agent, user = caller
        access = await self._access("cloudtrail", user)

        def call() -> tuple[int, bytes]:
            headers = {
                "Content-Type": "application/x-amz-json-1.1",
                "X-Amz-Target": f"{_TARGET}.{operation}",
                "User-Agent": agent,
            }
            url = str(access.endpoint_url)
            request = botocore.awsrequest.AWSRequest("POST", url, headers, body)
            keys = botocore.credentials.Credentials(
                access.access_key_id, access.secret_access_key, access.session_token
            )
            botocore.auth.SigV4Auth(keys, "cloudtrail", region).add_auth(request)
            session = botocore.httpsession.URLLib3Session(_verify(access), timeout=_CALL_SECONDS)
            answer = session.send(request.prepare())
            return answer.status_code, answer.content

        return await self._run(call, f"cloudtrail:{operation}")

    async def _run(self, call: Callable[[], T], name: str) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, translated, call, name)

    def _client(self, access: S3Access, service: str, region: str, agent: str) -> Any:
        if self._session is None:
            # Not before it is needed, see `adapters/aws/object_store.py`
            from botocore.session import Session

            self._session = Session()
        return self._session.create_client(
            service,
            region,
            endpoint_url=access.endpoint_url,
            aws_access_key_id=access.access_key_id,
            aws_secret_access_key=access.secret_access_key,
            aws_session_token=access.session_token,
            verify=_verify(access),
            config=botocore.config.Config(
                user_agent=agent,
                retries={"total_max_attempts": 1},
                connect_timeout=_CALL_SECONDS,
                read_timeout=_CALL_SECONDS,
                s3={"addressing_style": "path"},
            ),
        )


def _verify(access: S3Access) -> str | bool:
    return str(access.ca) if access.ca else True
