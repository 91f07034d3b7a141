"""Which objects a DeleteObjects named, and a DeleteObject record of each (cloudtrail-format §3.3).

The call's own record tells of no object. AWS has added a record of each since June 2025; its
members are those of a DeleteObject that was called by itself, as far as the call tells them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentrail.capture.record import s3_form
from opentrail.capture.record.event_ids import new_event_id
from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.limits import cut, limited
from opentrail.capture.record.safe_json import to_bytes
from opentrail.capture.redaction.redact import SHORTEST_SECRET, scrubbed
from opentrail.capture.redaction.secret_names import HIDDEN
from opentrail.wire.message import Request, Response, plain_body
from opentrail.wire.protocols.xml_body import Element, parse_xml
from opentrail.wire.sigv4 import signing_texts

_CALL, _EVENT = "DeleteObjects", "DeleteObject"
#: S3 takes no more objects in a call ("DeleteObjects", S3's API reference), and more bytes of their
#: records would hold other calls up; the call's own record says how many objects have none.
MOST_OBJECTS, MOST_BYTES = 1_000, 4 * 1024 * 1024
#: Of the keys so many bytes are told in the call's own record, less than our block may hold.
_TOLD_BYTES = 16 * 1024
#: What the call's parameters say of each of its objects.
_SHARED = ("bucketName", "Host")
_SHARED_HEADERS = (
    "x-amz-bypass-governance-retention",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
)
#: What our own block says of the caller.
_SHARED_NOTES = ("identity", "region")
UNTOLD = "the answer does not tell"
_DELETED, _ERROR = "Deleted", "Error"
#: Errors that name their key differ from each other; of so many different ones the text is told.
_MOST_MESSAGES = 10

#: Key and version of an object; the version is mostly empty.
_Object = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Told:
    """What an answer tells of an object: that it was deleted, or an error; by element."""

    kind: str
    details: Mapping[str, str]


#: A quiet answer tells of errors only.
_SILENTLY_DELETED = _Told(_DELETED, {})


def deletion_in(exchange: Exchange, own: dict[str, Any]) -> Deletion | None:
    """Returns the objects that a DeleteObjects names, None of another call.

    Our own block of its record is told their keys, or that its body is not XML.
    """
    if exchange.call.operation != _CALL:
        return None
    try:
        deletion = Deletion(exchange.request)
    except ValueError as error:
        own["decodeError"] = str(error)[:300]
        return None
    own.update(deletion.told_keys())
    return deletion


class Deletion:
    """The objects that a DeleteObjects is to delete.

    Raises:
        ValueError: the body is not XML.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._objects: list[_Object] = []
        self._is_quiet = False
        if not request.body or not request.body_is_whole:
            return
        root = parse_xml(plain_body(request.headers, request.body))
        objects = (child for child in root.children if child.local_name == "Object")
        self._objects = [_named(_texts(one)) for one in objects]
        self._is_quiet = (root.text_of("Quiet") or "").strip() == "true"

    def told_keys(self) -> dict[str, Any]:
        """Returns what our own block tells of the keys."""
        if not self._objects:
            return {}
        told: list[str] = []
        size = 0
        for key, _ in self._objects:
            size += len(to_bytes(key)) + 1
            if size > _TOLD_BYTES:
                break
            told.append(key)
        left_out = len(self._objects) - len(told)
        return {"deletedKeys": told} | ({"deletedKeysLeftOut": left_out} if left_out else {})

    def records(
        self,
        record: Mapping[str, Any],
        response: Response | None,
        own: dict[str, Any],
    ) -> list[tuple[str, bytes]]:
        """Returns event id and record of each object, whether it was deleted or not.

        Of a call that failed as a whole there is none.

        Args:
            record: the call's own record.
            response: its answer.
            own: our own block of the call's record; it is told how many objects have no record.
        """
        if response is None or not 200 <= response.status < 300:
            return []
        if "errorCode" in record or not record["requestParameters"]:
            return []
        objects = self._objects[:MOST_OBJECTS]
        told = _matched(objects, _answered(response), self._is_quiet)
        writer = _Writer(record, own, self._request)
        made: list[tuple[str, bytes]] = []
        size = 0
        for named in objects:
            event_id = new_event_id()
            raw = limited(writer.record_of(event_id, named, told[named]))
            size += len(raw)
            if size > MOST_BYTES:
                break
            made.append((event_id, raw))
        if len(made) < len(self._objects):
            own["deletedKeysWithoutRecord"] = len(self._objects) - len(made)
        return made


def _answered(response: Response) -> list[tuple[_Object, _Told]] | None:
    """Returns what an answer tells, None if it is no answer to a DeleteObjects."""
    try:
        root = parse_xml(plain_body(response.headers, response.body))
    except ValueError:
        return None
    if root.local_name != "DeleteResult":
        return None
    told = []
    for child in root.children:
        if child.local_name in (_DELETED, _ERROR):
            details = _texts(child)
            told.append((_named(details), _Told(child.local_name, details)))
    return told


def _named(details: Mapping[str, str]) -> _Object:
    return details.get("Key", ""), details.get("VersionId", "")


def _texts(element: Element) -> dict[str, str]:
    return {child.local_name: child.text for child in element.children}


def _matched(
    objects: Sequence[_Object], told: Sequence[tuple[_Object, _Told]] | None, is_quiet: bool
) -> dict[_Object, _Told | None]:
    """Returns what became of each object, None if that is not told.

    Some stores leave a version out where they tell of it. Then it is only known what became of it
    if all that is told of its key can be told apart, or is the same.
    """
    found: dict[_Object, _Told | None] = dict.fromkeys(objects)
    if told is None:
        return found
    by_name: dict[_Object, list[_Told]] = {}
    for named, one in told:
        by_name.setdefault(named, []).append(one)
    # By key: the plain object first, then versions of which nothing is told by version.
    claims: dict[str, list[_Object]] = {}
    for named in sorted(found):
        key, version = named
        if version and named in by_name:
            found[named] = _only_kind(by_name[named])
        else:
            claims.setdefault(key, []).append(named)
    for key, claimants in claims.items():
        found.update(_shared_out(by_name.get((key, ""), []), claimants, is_quiet))
    return found


def _shared_out(
    rest: Sequence[_Told], claimants: Sequence[_Object], is_quiet: bool
) -> Iterator[tuple[_Object, _Told]]:
    """Yields what became of objects of one key, given what is told of it without a version."""
    if rest and _only_kind(rest) is None:
        return
    if rest and not claimants[0][1]:
        yield claimants[0], rest[0]
        rest, claimants = rest[1:], claimants[1:]
    if not rest and is_quiet:
        yield from ((named, _SILENTLY_DELETED) for named in claimants)
    elif len(rest) >= len(claimants):
        yield from zip(claimants, rest, strict=False)


def _only_kind(told: Sequence[_Told]) -> _Told | None:
    return told[0] if len({one.kind for one in told}) == 1 else None


class _Writer:
    """Writes the records of a call's objects."""

    def __init__(self, record: Mapping[str, Any], own: Mapping[str, Any], request: Request) -> None:
        self._record = record
        self._label = record["eventSource"].removesuffix(".amazonaws.com")
        asked = record["requestParameters"]
        self._asked = asked
        self._shared = {name: asked[name] for name in _SHARED if name in asked}
        self._headers = {name: asked[name] for name in _SHARED_HEADERS if name in asked}
        self._notes = {name: own[name] for name in _SHARED_NOTES if name in own}
        self._notes["partOf"] = record["eventID"]
        self._extra = {
            name: 0.0 if name.startswith("bytes") else value  # they were those of the whole call
            for name, value in record.get("additionalEventData", {}).items()
        }
        self._given = s3_form.given_in_head(request)
        self._never = [text for text in signing_texts(request) if text]
        secrets = (*self._never, *self._given["headers"])
        self._secrets = [text for text in secrets if len(text) >= SHORTEST_SECRET]
        self._messages: dict[str, str] = {}

    def record_of(self, event_id: str, named: _Object, told: _Told | None) -> dict[str, Any]:
        """Returns an object's record."""
        key, version = named
        parameters = {**self._shared, "key": key}
        if version:
            parameters["versionId"] = version
        parameters.update(self._headers)
        account, region = self._record["recipientAccountId"], self._record["awsRegion"]
        own = self._notes if told is not None else {**self._notes, "outcome": UNTOLD}
        changed = {
            "eventName": _EVENT,
            "requestParameters": parameters,
            "responseElements": self._answer(told) or None,
            "additionalEventData": {**self._extra, "opentrail": own},
            "eventID": event_id,
            "resources": s3_form.touched(parameters, _EVENT, account, self._label, region),
        }
        made: dict[str, Any] = {}
        for name, value in self._record.items():
            if name == "requestParameters":
                made.update(self._error(told))
            made[name] = changed.get(name, value)
        return made

    def _answer(self, told: _Told | None) -> dict[str, str]:
        """Returns `responseElements`: the headers of a DeleteObject's answer that tell the same."""
        if told is None or told.kind != _DELETED:
            return {}
        marker = told.details.get("DeleteMarker", "")
        version = told.details.get("DeleteMarkerVersionId") or told.details.get("VersionId")
        answer = {"x-amz-delete-marker": marker} if marker == "true" else {}
        return answer | ({"x-amz-version-id": self._shown(version)} if version else {})

    def _error(self, told: _Told | None) -> dict[str, str]:
        """Returns `errorCode` and `errorMessage`."""
        if told is None or told.kind != _ERROR:
            return {}
        error = {"errorCode": self._shown(told.details.get("Code") or "InternalError")}
        message = self._message(told.details.get("Message", ""))
        return error | ({"errorMessage": message} if message else {})

    def _shown(self, text: str) -> str:
        return HIDDEN if any(secret in text for secret in self._secrets) else cut(text)

    def _message(self, message: str) -> str:
        """Returns an error's text without what the call gave and its record does not show."""
        shown = self._messages.get(message, "")
        if message and not shown and len(self._messages) < _MOST_MESSAGES:
            shown = cut(scrubbed(message, self._given, self._asked, self._never))
            self._messages[message] = shown
        return shown
