"""Trails in the Resource Groups Tagging API: the upstream's answer, with the trails added.

The upstream answers for its own resources and does not know the trails. What it says of other
resources is passed on as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson

Json = dict[str, Any]
#: Calls an operation of opentrail's API as the caller; returns status and document.
AskApi = Callable[[str, Json], Awaitable[tuple[int, Json]]]

TAGGING = "resourcegroupstaggingapi"
_READS = frozenset({"GetResources", "GetTagKeys", "GetTagValues"})
_WRITES = frozenset({"TagResources", "UntagResources"})
#: Operations whose answers have trails in them.
OPERATIONS = _READS | _WRITES
#: What of an error's code says that an upstream does not have the operation at all.
_ABSENT = ("Unknown", "NotImplemented", "Unsupported", "MethodNotAllowed", "NotFound")
_REFUSED = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
#: Maximum trails in a ListTags request.
_MAX_LISTED_TRAILS = 20
#: Maximum resources of TagResources and UntagResources, on AWS, too; each trail is a call here.
_MAX_CHANGED = 20


def is_trail(arn: object) -> bool:
    """Returns whether a value has the form of a trail's ARN.

    >>> is_trail("arn:aws:cloudtrail:us-east-1:123456789012:trail/main"), is_trail("arn:aws:s3:::b")
    (True, False)
    """
    parts = arn.split(":", 5) if isinstance(arn, str) else []
    return len(parts) == 6 and parts[2] == "cloudtrail" and parts[5].startswith("trail/")


class TrailTags:
    """Adds the trails of one account and Region to answers of an upstream.

    Args:
        ask: calls opentrail's API as the caller, so that policies apply.
        region: the Region that was called.
    """

    def __init__(self, ask: AskApi, region: str) -> None:
        self._ask = ask
        self._region = region

    async def merged(
        self, operation: str, body: bytes, status: int, answer: bytes
    ) -> tuple[int, bytes] | None:
        """Returns status and body of the answer with the trails; None if it stays as it is.

        Args:
            operation: one of `OPERATIONS`.
            body: the body of the request.
            status: the upstream's status.
            answer: the body of its answer.
        """
        parameters, document = _object(body), _object(answer)
        if parameters is None:
            return None
        if operation in _WRITES:
            return await self._changed(operation, parameters, status, document)
        if status != HTTPStatus.OK:
            if not _is_absent(status, document):
                return None
            document = {}
        if document is None or document.get("PaginationToken"):
            return None  # trails are on the last page
        changed = await self._with_trails(operation, parameters, document)
        return HTTPStatus.OK, orjson.dumps(changed)

    # Reading

    async def _with_trails(self, operation: str, parameters: Json, document: Json) -> Json:
        tagged = await self._tagged_trails()
        if operation == "GetResources":
            mappings = [
                {"ResourceARN": arn, "Tags": tags}
                for arn, tags in tagged.items()
                if _is_wanted(parameters, arn, tags)
            ]
            name = "ResourceTagMappingList"
            values: list[Any] = [*_list(document, name), *mappings]
        elif operation == "GetTagKeys":
            name = "TagKeys"
            values = _union(document, name, (t["Key"] for tags in tagged.values() for t in tags))
        else:
            name, key = "TagValues", parameters.get("Key")
            values = _union(
                document,
                name,
                (t["Value"] for tags in tagged.values() for t in tags if t["Key"] == key),
            )
        return {"PaginationToken": "", **document, name: values}

    async def _tagged_trails(self) -> dict[str, list[dict[str, str]]]:
        """Returns the tags of the Region's trails that have some, by ARN."""
        status, document = await self._ask("ListTrails", {})
        trails = [
            str(item["TrailARN"])
            for item in _list(document, "Trails")
            if item.get("HomeRegion") == self._region
        ]
        tagged: dict[str, list[dict[str, str]]] = {}
        for start in range(0, len(trails) if status == HTTPStatus.OK else 0, _MAX_LISTED_TRAILS):
            arns = trails[start : start + _MAX_LISTED_TRAILS]
            status, answer = await self._ask("ListTags", {"ResourceIdList": arns})
            if status != HTTPStatus.OK:
                continue  # the caller may not see them
            for item in _list(answer, "ResourceTagList"):
                if item["TagsList"]:
                    tagged[item["ResourceId"]] = [
                        {"Key": tag["Key"], "Value": tag.get("Value", "")}
                        for tag in item["TagsList"]
                    ]
        return tagged

    # Changing

    async def _changed(
        self, operation: str, parameters: Json, status: int, document: Json | None
    ) -> tuple[int, bytes] | None:
        arns = parameters.get("ResourceARNList")
        resources = arns if isinstance(arns, Sequence) and not isinstance(arns, str) else []
        trails = [arn for arn in resources if is_trail(arn)]
        if not trails or len(resources) > _MAX_CHANGED or status in _REFUSED:
            return None
        if status != HTTPStatus.OK and len(trails) < len(resources):
            return None  # the upstream has changed nothing, so nothing is changed here
        answer = document if status == HTTPStatus.OK and document is not None else {}
        failed = {**answer.get("FailedResourcesMap", {})}
        for arn in trails:
            failed.pop(arn, None)
            code, reply = await self._change(operation, parameters, arn)
            if code != HTTPStatus.OK:
                failed[arn] = _failure(code, reply)
        return HTTPStatus.OK, orjson.dumps({**answer, "FailedResourcesMap": failed})

    async def _change(self, operation: str, parameters: Json, arn: str) -> tuple[int, Json]:
        if operation == "TagResources":
            pairs_by_key = parameters.get("Tags")
            pairs = pairs_by_key.items() if isinstance(pairs_by_key, Mapping) else ()
            tags = [{"Key": key, "Value": value} for key, value in pairs]
            return await self._ask("AddTags", {"ResourceId": arn, "TagsList": tags})
        keys = parameters.get("TagKeys")
        tags = [{"Key": key} for key in keys] if isinstance(keys, Sequence) else []
        return await self._ask("RemoveTags", {"ResourceId": arn, "TagsList": tags})


def _object(body: bytes) -> Json | None:
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return document if isinstance(document, dict) else None


def _list(document: Json, name: str) -> list[Any]:
    value = document.get(name)
    return value if isinstance(value, list) else []


def _union(document: Json, name: str, more: Any) -> list[str]:
    return sorted({*map(str, _list(document, name)), *more})


def _is_absent(status: int, answer: Json | None) -> bool:
    """Returns whether an upstream does not have the operation."""
    if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.NOT_IMPLEMENTED):
        return True
    code = str((answer or {}).get("__type") or (answer or {}).get("code") or "")
    return status not in _REFUSED and any(word in code for word in _ABSENT)


def _is_wanted(parameters: Json, arn: str, tags: Sequence[Mapping[str, str]]) -> bool:
    """Returns whether a trail fits the filters of GetResources."""
    arns = _list(parameters, "ResourceARNList")
    types = _list(parameters, "ResourceTypeFilters")
    if arns and arn not in arns:
        return False
    if types and not {"cloudtrail", "cloudtrail:trail"} & set(map(str, types)):
        return False
    values = {tag["Key"]: tag["Value"] for tag in tags}
    for tag_filter in _list(parameters, "TagFilters"):
        allowed = _list(tag_filter, "Values")
        if tag_filter.get("Key") not in values or (
            allowed and values[tag_filter["Key"]] not in allowed
        ):
            return False
    return True


def _failure(status: int, reply: Json) -> Json:
    message = reply.get("Message") or reply.get("message") or reply.get("__type") or ""
    is_callers = status < HTTPStatus.INTERNAL_SERVER_ERROR
    code = "InvalidParameterException" if is_callers else "InternalServiceException"
    return {"StatusCode": int(status), "ErrorCode": code, "ErrorMessage": str(message)}
