"""Which objects a DeleteObjects named, and a DeleteObject record of each (cloudtrail-facts §5.5).

The call's own record tells of no object. AWS has added a record of each since June 2025; its
members are those of a DeleteObject that was called by itself, as far as the call tells them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from itertools import accumulate
from typing import Any

from opentrail.capture import s3_form
from opentrail.capture.event_ids import new_event_id
from opentrail.capture.exchange import Exchange
from opentrail.capture.limits import cut
from opentrail.capture.redact import scrubbed
from opentrail.wire.message import Request, Response, plain_body
from opentrail.wire.protocols.xml_body import Element, parse_xml
from opentrail.wire.sigv4 import signing_texts

_CALL, _EVENT = "DeleteObjects", "DeleteObject"
#: S3 takes no more objects in a call ("DeleteObjects", S3's API reference); of more, which another
#: store may take, the call's own record says so.
MOST_OBJECTS = 1_000
#: Of the keys so many bytes are told in the call's own record, less than our block may hold.
_TOLD_BYTES = 16 * 1024
#: What the call's parameters say of each of its objects.
_SHARED = ("bucketName", "Host")
#: Elements of an answer, by the header of a DeleteObject's answer that tells the same.
_HEADERS = {"x-amz-delete-marker": "DeleteMarker", "x-amz-version-id": "DeleteMarkerVersionId"}
_DELETED, _ERROR = "Deleted", "Error"
UNTOLD = "the answer does not tell"

#: Key and version of an object; the version is mostly empty.
_Object = tuple[str, str]


def told_keys(exchange: Exchange) -> dict[str, Any]:
    """Returns what our own block tells of the keys that a call named; nothing of other calls.

    Raises:
        ValueError: the body is not XML.
    """
    if exchange.call.operation != _CALL:
        return {}
    keys = [key for key, _ in _Asked(exchange.request).objects]
    if not keys:
        return {}
    sizes = list(accumulate(len(key.encode("utf-8", "replace")) + 3 for key in keys))
    told = keys[: bisect_right(sizes, _TOLD_BYTES)]
    counts = {
        "deletedKeysLeftOut": len(keys) - len(told),
        "deletedKeysWithoutRecord": max(0, len(keys) - MOST_OBJECTS),
    }
    return {"deletedKeys": told} | {name: count for name, count in counts.items() if count}


def of_each_object(
    record: Mapping[str, Any], exchange: Exchange, express_region: str | None
) -> list[dict[str, Any]]:
    """Returns a record of each object that a DeleteObjects named, whether it was deleted or not.

    Of a call that failed as a whole, or could not be read, there is none.

    Args:
        record: the call's own record.
        exchange: the call.
        express_region: the Region of a call to S3 Express, whose objects have ARNs of their own.
    """
    request, response = exchange.request, exchange.response
    if exchange.call.operation != _CALL or response is None:
        return []
    if "errorCode" in record or not record["requestParameters"]:
        return []
    asked = _Asked(request)
    outcomes = _Outcomes(asked, request, response)
    return [
        _record_of(named, outcomes, record, express_region)
        for named in asked.objects[:MOST_OBJECTS]
    ]


def _record_of(
    named: _Object, outcomes: _Outcomes, record: Mapping[str, Any], express_region: str | None
) -> dict[str, Any]:
    (key, version), asked = named, record["requestParameters"]
    parameters = {name: asked[name] for name in _SHARED if name in asked} | {"key": key}
    if version:
        parameters["versionId"] = version
    own, error = {"partOf": record["eventID"]}, outcomes.error(named)
    if not outcomes.tell_of(named):
        own["outcome"] = UNTOLD
    extra = {
        name: 0.0 if name.startswith("bytes") else value  # they were those of the whole call
        for name, value in record.get("additionalEventData", {}).items()
    }
    changed = {
        "eventName": _EVENT,
        "requestParameters": parameters,
        "responseElements": outcomes.answer(named) or None,
        "additionalEventData": {**extra, "opentrail": own},
        "eventID": new_event_id(),
        "resources": s3_form.touched(
            parameters, _EVENT, record["recipientAccountId"], express_region
        ),
    }
    made: dict[str, Any] = {}
    for name, value in record.items():
        if name == "requestParameters":
            made.update(error)
        made[name] = changed.get(name, value)
    return made


class _Asked:
    """What a DeleteObjects asks for.

    Raises:
        ValueError: the body is not XML.
    """

    def __init__(self, request: Request) -> None:
        self.objects: list[_Object] = []
        #: Whether the answer is to tell of errors only.
        self.is_quiet = False
        if not request.body or not request.body_is_whole:
            return
        root = parse_xml(plain_body(request.headers, request.body))
        self.objects = [_named(child) for child in root.children if child.local_name == "Object"]
        self.is_quiet = (root.text_of("Quiet") or "").strip() == "true"


class _Outcomes:
    """What the answer to a DeleteObjects tells of its objects."""

    def __init__(self, asked: _Asked, request: Request, response: Response) -> None:
        self._request = request
        self._told: dict[_Object, dict[str, Element]] = {}
        self._messages: dict[str, str] = {}
        try:
            root = parse_xml(plain_body(response.headers, response.body))
        except ValueError:
            self._tells_of_all = False
            return
        self._tells_of_all = asked.is_quiet
        for child in root.children:
            if child.local_name in (_DELETED, _ERROR):
                self._told.setdefault(_named(child), {})[child.local_name] = child

    def tell_of(self, named: _Object) -> bool:
        """Returns whether it is known what became of an object."""
        return self._tells_of_all or bool(self._of(named))

    def answer(self, named: _Object) -> dict[str, str]:
        """Returns an object's `responseElements`."""
        element = self._of(named).get(_DELETED)
        if element is None:
            return {}
        told = {header: element.text_of(name) for header, name in _HEADERS.items()}
        told["x-amz-version-id"] = told["x-amz-version-id"] or named[1]
        return {header: text for header, text in told.items() if text and text != "false"}

    def error(self, named: _Object) -> dict[str, str]:
        """Returns an object's `errorCode` and `errorMessage`."""
        element = self._of(named).get(_ERROR)
        if element is None:
            return {}
        error = {"errorCode": cut(element.text_of("Code") or "InternalError")}
        message = element.text_of("Message")
        return error | ({"errorMessage": self._without_secrets(message)} if message else {})

    def _of(self, named: _Object) -> dict[str, Element]:
        """Returns an object's elements; some stores leave a version out where they tell of it."""
        return self._told.get(named) or self._told.get((named[0], ""), {})

    def _without_secrets(self, message: str) -> str:
        """Returns an error's text without what the head gave; objects have much the same ones."""
        shown = self._messages.get(message)
        if shown is None:
            given = s3_form.given_in_head(self._request)
            shown = cut(scrubbed(message, given, {}, signing_texts(self._request)))
            self._messages[message] = shown
        return shown


def _named(element: Element) -> _Object:
    return element.text_of("Key") or "", element.text_of("VersionId") or ""
