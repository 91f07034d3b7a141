"""Reads trails and public keys from the CloudTrail API with the user's credentials."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import boto3
import botocore.config
import botocore.exceptions

from opentrail.core.errors import OpentrailError


class TrailReader:
    """Calls the API with the credentials that SDKs find in the environment.

    Args:
        endpoint_url: URL of the API; None for the one that SDKs use.
    """

    def __init__(self, endpoint_url: str | None = None) -> None:
        self._endpoint = endpoint_url
        self._clients: dict[str, Any] = {}

    def trail(self, name: str, region: str) -> Mapping[str, Any] | None:
        """Returns the trail with this name or ARN from DescribeTrails; None if it does not exist.

        Raises:
            OpentrailError: the service refused or cannot be reached.
        """
        trails = self._ask(region, "describe_trails", includeShadowTrails=True)["trailList"]
        matches = (t for t in trails if name in (t.get("TrailARN"), t.get("Name")))
        return next(matches, None)

    def public_keys(self, region: str, start: datetime, end: datetime) -> list[Mapping[str, Any]]:
        """Returns the keys of a Region that signed in a time range, as ListPublicKeys does.

        Raises:
            OpentrailError: the service refused or cannot be reached.
        """
        keys: list[Mapping[str, Any]] = []
        page: dict[str, Any] = {}
        while True:
            answer = self._ask(region, "list_public_keys", StartTime=start, EndTime=end, **page)
            keys += answer.get("PublicKeyList", ())
            if not answer.get("NextToken"):
                return keys
            page = {"NextToken": answer["NextToken"]}

    def _ask(self, region: str, operation: str, **arguments: Any) -> Any:
        try:
            return getattr(self._client(region), operation)(**arguments)
        except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
            raise OpentrailError(f"the CloudTrail API cannot be asked: {error}") from error

    def _client(self, region: str) -> Any:
        if region not in self._clients:
            settings = botocore.config.Config(retries={"max_attempts": 4, "mode": "standard"})
            session = boto3.session.Session(region_name=region)
            self._clients[region] = session.client(
                "cloudtrail", endpoint_url=self._endpoint, config=settings
            )
        return self._clients[region]
