"""The objects that a DeleteObjects names, and a DeleteObject record of each.

The call's own record names no objects. Since June 2025 AWS adds a record of each; its members are
those of a single DeleteObject, as far as they are known (cloudtrail-format §3.3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from opentrail.capture.record.exchange import Exchange
from opentrail.capture.record.resources import s3_resources
from opentrail.capture.record.s3_form import decode_s3_head
from opentrail.capture.record_limits import (
    MAX_DELETED_BYTES,
    MAX_DELETED_OBJECTS,
    MAX_DELETION_MESSAGES,
    MAX_LISTED_KEY_BYTES,
    MAX_REASON_LENGTH,
    encode_record,
    to_bytes,
    truncate,
)
from opentrail.capture.redaction.redact import MIN_SECRET_LENGTH, redact_message
from opentrail.capture.redaction.secret_names import HIDDEN
from opentrail.core.event import new_event_id
from opentrail.wire.message import Request, Response, plain_body
from opentrail.wire.protocols.xml_body import Element, parse_xml
from opentrail.wire.sigv4 import signing_texts

#: Parameters of the call that each object's record has, too.
_SHARED = ("bucketName", "Host")
_SHARED_HEADERS = (
    "x-amz-bypass-governance-retention",
    "x-amz-expected-bucket-owner",
    "x-amz-request-payer",
)
#: Notes of the call that each object's record has, too.
_SHARED_NOTES = ("identity", "region")
#: The note on an object whose result the answer does not contain.
NO_RESULT = "the answer does not tell"
_DELETED, _ERROR = "Deleted", "Error"

#: Key and version of an object; the version is mostly empty.
_Object = tuple[str, str]


@dataclass(frozen=True, slots=True)
class _Result:
    """What an answer says about an object: the element's name and its children's strings."""

    element: str
    details: Mapping[str, str]


#: A quiet answer contains errors only.
_SILENTLY_DELETED = _Result(_DELETED, {})


def deletion_in(exchange: Exchange, notes: dict[str, Any]) -> Deletion | None:
    """Returns the objects that a DeleteObjects names, None for another call.

    Their keys, or that the body is not XML, are noted.
    """
    if exchange.route.operation != "DeleteObjects":
        return None
    try:
        deletion = Deletion(exchange.request)
    except ValueError as error:
        notes["decodeError"] = str(error)[:MAX_REASON_LENGTH]
        return None
    notes.update(deletion.noted_keys())
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
        self._objects = [_object_of(_texts(element)) for element in objects]
        self._is_quiet = (root.text_of("Quiet") or "").strip() == "true"

    def noted_keys(self) -> dict[str, Any]:
        """Returns the notes on the keys for the call's own record."""
        if not self._objects:
            return {}
        keys: list[str] = []
        size = 0
        for key, _ in self._objects:
            size += len(to_bytes(key)) + 1
            if size > MAX_LISTED_KEY_BYTES:
                break
            keys.append(key)
        left_out = len(self._objects) - len(keys)
        return {"deletedKeys": keys} | ({"deletedKeysLeftOut": left_out} if left_out else {})

    def records(
        self, record: Mapping[str, Any], response: Response | None, notes: dict[str, Any]
    ) -> list[tuple[str, bytes]]:
        """Returns event id and record of each object, whether it was deleted or not.

        A call that failed as a whole has none.

        Args:
            record: the call's own record.
            response: its answer.
            notes: opentrail's block of that record; the number of objects without a record is
                added.
        """
        if response is None or not 200 <= response.status < 300:
            return []
        if "errorCode" in record or not record["requestParameters"]:
            return []
        objects = self._objects[:MAX_DELETED_OBJECTS]
        results = _matched(objects, _results_in(response), self._is_quiet)
        writer = _Writer(record, notes, self._request)
        records: list[tuple[str, bytes]] = []
        size = 0
        for object_ in objects:
            event_id = new_event_id()
            raw = encode_record(writer.record_of(event_id, object_, results[object_]))
            size += len(raw)
            if size > MAX_DELETED_BYTES:
                break
            records.append((event_id, raw))
        if len(records) < len(self._objects):
            notes["deletedKeysWithoutRecord"] = len(self._objects) - len(records)
        return records


def _results_in(response: Response) -> list[tuple[_Object, _Result]] | None:
    """Returns the results in an answer, None if it is not an answer to a DeleteObjects."""
    try:
        root = parse_xml(plain_body(response.headers, response.body))
    except ValueError:
        return None
    if root.local_name != "DeleteResult":
        return None
    results = []
    for child in root.children:
        if child.local_name in (_DELETED, _ERROR):
            details = _texts(child)
            results.append((_object_of(details), _Result(child.local_name, details)))
    return results


def _object_of(details: Mapping[str, str]) -> _Object:
    return details.get("Key", ""), details.get("VersionId", "")


def _texts(element: Element) -> dict[str, str]:
    return {child.local_name: child.text for child in element.children}


def _matched(
    objects: Sequence[_Object], results: Sequence[tuple[_Object, _Result]] | None, is_quiet: bool
) -> dict[_Object, _Result | None]:
    """Returns the result for each object, None if it cannot be determined.

    Some stores leave out the version. The results of a key can then be assigned to its versions
    only if there is one for each, or if all are the same.
    """
    matches: dict[_Object, _Result | None] = dict.fromkeys(objects)
    if results is None:
        return matches
    by_name: dict[_Object, list[_Result]] = {}
    for object_, result in results:
        by_name.setdefault(object_, []).append(result)
    # By key: the object without a version first, then versions without a result of that version.
    unmatched: dict[str, list[_Object]] = {}
    for object_ in sorted(matches):
        key, version = object_
        if version and object_ in by_name:
            matches[object_] = _first_if_alike(by_name[object_])
        else:
            unmatched.setdefault(key, []).append(object_)
    for key, same_key in unmatched.items():
        matches.update(_assigned(by_name.get((key, ""), []), same_key, is_quiet))
    return matches


def _assigned(
    results: Sequence[_Result], objects: Sequence[_Object], is_quiet: bool
) -> Iterator[tuple[_Object, _Result]]:
    """Yields objects of one key with their results, given the results without a version."""
    if results and _first_if_alike(results) is None:
        return
    if results and not objects[0][1]:
        yield objects[0], results[0]
        results, objects = results[1:], objects[1:]
    if not results and is_quiet:
        yield from ((object_, _SILENTLY_DELETED) for object_ in objects)
    elif len(results) >= len(objects):
        yield from zip(objects, results, strict=False)


def _first_if_alike(results: Sequence[_Result]) -> _Result | None:
    return results[0] if len({result.element for result in results}) == 1 else None


class _Writer:
    """Writes the records of a call's objects."""

    def __init__(
        self, record: Mapping[str, Any], notes: Mapping[str, Any], request: Request
    ) -> None:
        self._record = record
        self._source = record["eventSource"].removesuffix(".amazonaws.com")
        self._call_parameters = record["requestParameters"]
        self._shared = self._select(_SHARED)
        self._headers = self._select(_SHARED_HEADERS)
        self._notes = {name: notes[name] for name in _SHARED_NOTES if name in notes}
        self._notes["partOf"] = record["eventID"]
        self._extra = {
            name: 0.0 if name.startswith("bytes") else value  # they were those of the whole call
            for name, value in record.get("additionalEventData", {}).items()
        }
        self._given = decode_s3_head(request)
        self._never = [text for text in signing_texts(request) if text]
        secrets = (*self._never, *self._given["headers"])
        self._secrets = [text for text in secrets if len(text) >= MIN_SECRET_LENGTH]
        self._messages: dict[str, str] = {}

    def _select(self, names: Sequence[str]) -> dict[str, Any]:
        parameters = self._call_parameters
        return {name: parameters[name] for name in names if name in parameters}

    def record_of(self, event_id: str, object_: _Object, result: _Result | None) -> dict[str, Any]:
        key, version = object_
        parameters = {**self._shared, "key": key}
        if version:
            parameters["versionId"] = version
        parameters.update(self._headers)
        account, region = self._record["recipientAccountId"], self._record["awsRegion"]
        notes = self._notes if result is not None else {**self._notes, "outcome": NO_RESULT}
        changed = {
            "eventName": "DeleteObject",
            "requestParameters": parameters,
            "responseElements": self._answer(result) or None,
            "additionalEventData": {**self._extra, "opentrail": notes},
            "eventID": event_id,
            "resources": s3_resources("DeleteObject", parameters, self._source, region, account),
        }
        record: dict[str, Any] = {}
        for name, value in self._record.items():
            if name == "requestParameters":
                record.update(self._error(result))
            record[name] = changed.get(name, value)
        return record

    def _answer(self, result: _Result | None) -> dict[str, str]:
        """Returns `responseElements`: the result as the headers of a DeleteObject's answer."""
        if result is None or result.element != _DELETED:
            return {}
        marker = result.details.get("DeleteMarker", "")
        version = result.details.get("DeleteMarkerVersionId") or result.details.get("VersionId")
        answer = {"x-amz-delete-marker": marker} if marker == "true" else {}
        return answer | ({"x-amz-version-id": self._hide_secrets(version)} if version else {})

    def _error(self, result: _Result | None) -> dict[str, str]:
        """Returns `errorCode` and `errorMessage`."""
        if result is None or result.element != _ERROR:
            return {}
        error = {"errorCode": self._hide_secrets(result.details.get("Code") or "InternalError")}
        message = self._message(result.details.get("Message", ""))
        return error | ({"errorMessage": message} if message else {})

    def _hide_secrets(self, text: str) -> str:
        return HIDDEN if any(secret in text for secret in self._secrets) else truncate(text)

    def _message(self, message: str) -> str:
        """Returns an error message without values that the call gave and its record hides."""
        redacted = self._messages.get(message, "")
        if message and not redacted and len(self._messages) < MAX_DELETION_MESSAGES:
            redacted = truncate(
                redact_message(message, self._given, self._call_parameters, self._never)
            )
            self._messages[message] = redacted
        return redacted
