"""What `opentrail trail` does: lists trails, and changes them by recorded calls of the API."""

from __future__ import annotations

from typing import Any

import orjson

from opentrail.api.console.turn_on import ConsoleCaller, OwnEndpoint, TurningOn, Wish
from opentrail.api.operation import Services
from opentrail.api.trail_states import Json, find_trail, trail_state
from opentrail.core.errors import CloudTrailError
from opentrail.version import __version__

_CALLER: ConsoleCaller = (f"opentrail/{__version__}", None)
_OPERATIONS = {"start": "StartLogging", "stop": "StopLogging", "delete": "DeleteTrail"}


class TrailAdministration:
    """Runs actions on trails; calls are made with the server's own key, in its account.

    Args:
        services: what operations use.
        endpoint: this server's own endpoint.
        account: the account of the server's key.
    """

    def __init__(self, services: Services, endpoint: OwnEndpoint, account: str) -> None:
        self._services = services
        self._endpoint = endpoint
        self._account = account

    async def run(self, given: dict[str, Any]) -> Json:
        """Returns the answer to an action: list, show, create, start, stop or delete.

        Raises:
            CloudTrailError: the action is unknown, or was refused.
        """
        action = given.get("action")
        if action == "list":
            stored = await self._services.trails.all(None)
            trails = sorted((each.trail for each in stored), key=lambda each: (each.name, each.arn))
            control = self._services.control
            return {"trails": [await trail_state(control, trail) for trail in trails]}
        if action == "create":
            return await self._create(given)
        trail = await find_trail(self._services.trails, given.get("name"), None)
        if action == "show":
            return await trail_state(self._services.control, trail)
        if action not in _OPERATIONS:
            raise CloudTrailError("InvalidParameterException", f"there is no action {action!r}")
        body = orjson.dumps({"Name": trail.arn})
        operation = _OPERATIONS[action]
        status, answer = await self._endpoint.cloudtrail(
            operation, trail.home_region, _CALLER, body
        )
        if status != 200:
            raise _refused(answer, status)
        return {"trail": trail.arn}

    async def _create(self, given: dict[str, Any]) -> Json:
        region = given.get("region")
        members = {name: given[name] for name in given if name not in ("action", "region")}
        wish = Wish.of(members)
        if not isinstance(region, str) or not region:
            raise CloudTrailError("InvalidParameterException", "region must be given")
        turning_on = TurningOn(self._endpoint, region, self._account, _CALLER)
        async for line in turning_on.steps(wish):
            step = orjson.loads(line)
            if step["error"]:
                error = step["error"]
                message = f"step {step['step']}: {error['message']}"
                raise CloudTrailError(error["code"], message)
        trail = await find_trail(self._services.trails, wish.name, self._account)
        return await trail_state(self._services.control, trail)


def _refused(answer: bytes, status: int) -> CloudTrailError:
    try:
        document = orjson.loads(answer)
        code = str(document["__type"]).rpartition("#")[2]
        return CloudTrailError(
            code, str(document.get("message") or document.get("Message") or code)
        )
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return CloudTrailError(
            "InternalFailure", f"the endpoint answered with status {status}", 500
        )
