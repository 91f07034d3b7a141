"""Events as logs of OpenTelemetry, for a collector (OTLP/HTTP with JSON).

Attributes have the names that the OpenTelemetry Collector gives to CloudTrail's records (its
encoding `aws.cloudtrail`, semantic conventions 1.38); the body is the exact record, the event in
OCSF as JSON, or nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from opentrail.core.batching import batches
from opentrail.core.event import Entry, Json, as_object, flattened, micros, parse_time
from opentrail.core.ocsf import ocsf_event
from opentrail.ports.control import ControlStore
from opentrail.ports.follow import StoredCursor
from opentrail.ports.metrics import Metrics
from opentrail.ports.services import LogCollector

#: Maximum events of one request.
MAX_EVENTS = 500
#: Maximum bytes of their records; attributes make a request up to three times as large.
MAX_BYTES = 1024 * 1024

#: Member of a record → attribute.
_TEXTS = {
    "eventVersion": "aws.cloudtrail.event_version",
    "eventID": "aws.cloudtrail.event_id",
    "apiVersion": "aws.cloudtrail.api_version",
    "eventName": "rpc.method",
    "eventSource": "rpc.service",
    "requestID": "aws.request_id",
    "eventCategory": "aws.event.category",
    "sourceIPAddress": "source.address",
    "userAgent": "user_agent.original",
    "errorCode": "aws.error.code",
    "errorMessage": "aws.error.message",
    "sharedEventID": "aws.shared_event_id",
}
_FLAGS = {"readOnly": "aws.event.read_only", "managementEvent": "aws.event.management"}
_MAPS = {
    "requestParameters": "aws.request.parameters",
    "responseElements": "aws.response.elements",
    "additionalEventData": "aws.cloudtrail.additional_event_data",
    "insightDetails": "aws.insight_details",
}
_IDENTITY = {
    "userId": "user.id",
    "userName": "user.name",
    "accountId": "aws.user_identity.account_id",
    "accessKeyId": "aws.access_key.id",
    "identityStoreArn": "aws.identity_store.arn",
    "invokedBy": "aws.user_identity.invoked_by",
    "principalId": "aws.principal.id",
    "arn": "aws.principal.arn",
    "type": "aws.principal.type",
}
_SESSION = "aws.user_identity.session_context"
_ISSUER = {
    "type": f"{_SESSION}.issuer.type",
    "principalId": f"{_SESSION}.issuer.principal_id",
    "arn": f"{_SESSION}.issuer.arn",
    "accountId": f"{_SESSION}.issuer.account_id",
    "userName": f"{_SESSION}.issuer.user_name",
}
_RESOURCE = {"accountId": "account.id", "type": "type", "ARN": "arn"}


class OtlpFollower:
    """A follower that sends all events to a collector, at least once and in order.

    It counts and skips records that the collector refuses for good. While the collector does not
    answer, events wait in the journal.

    Args:
        body: the content of a log's body: `record`, `ocsf` or `none`.
    """

    name = "otlp"

    def __init__(
        self,
        control: ControlStore,
        collector: LogCollector,
        metrics: Metrics,
        head: Callable[[], int],
        body: str = "record",
    ) -> None:
        self._collector = collector
        self._metrics = metrics
        self._body = body
        self._cursor = StoredCursor(control, "otlp", head)

    async def cursor(self) -> int:
        """Returns the cursor, which begins at the current head of the journal."""
        return await self._cursor.position()

    async def process(self, entries: Sequence[Entry]) -> None:
        """Sends the entries, in requests of limited size.

        Raises:
            ServiceError: the collector does not take any now.
        """
        sent_until = await self.cursor()
        unsent = [entry for entry in entries if entry.position > sent_until]
        for batch in batches(unsent, lambda entry: len(entry.record), MAX_BYTES, MAX_EVENTS):
            rejected = await self._collector.send(logs_of(batch, self._body))
            self._metrics.otlp_events.labels("rejected").inc(rejected)
            self._metrics.otlp_events.labels("taken").inc(len(batch) - rejected)
            await self._cursor.store(batch[-1].position)


def logs_of(entries: Sequence[Entry], body: str = "record") -> Json:
    """Returns the request with some events (`ExportLogsServiceRequest`), grouped by their place."""
    by_place: dict[tuple[str, str], list[Json]] = defaultdict(list)
    for entry in entries:
        by_place[entry.account, entry.region].append(_log_record(entry, body))
    return {
        "resourceLogs": [
            {
                "resource": {
                    "attributes": [
                        _attribute("cloud.provider", "aws"),
                        _attribute("cloud.region", region),
                        _attribute("cloud.account.id", account),
                    ]
                },
                "scopeLogs": [
                    {
                        "scope": {
                            "name": "opentrail",
                            "attributes": [_attribute("encoding.format", "aws.cloudtrail")],
                        },
                        "logRecords": records,
                    }
                ],
            }
            for (account, region), records in by_place.items()
        ]
    }


def _log_record(entry: Entry, body: str) -> Json:
    record = msgspec.json.decode(entry.record)
    return {
        "timeUnixNano": str(micros(parse_time(record["eventTime"])) * 1000),
        "observedTimeUnixNano": str(micros(entry.recorded_at) * 1000),
        **_body(entry, record, body),
        "attributes": [_attribute(name, value) for name, value in _attributes(record)],
    }


def _body(entry: Entry, record: Mapping[str, Any], body: str) -> Json:
    if body == "none":
        return {}
    text = msgspec.json.encode(ocsf_event(record)) if body == "ocsf" else entry.record
    return {"body": {"stringValue": text.decode()}}


def _attributes(record: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the attributes that a record has."""
    record = flattened(record)
    yield from _renamed(record, _TEXTS)
    if event_type := record.get("eventType"):
        yield "rpc.system", event_type
        yield "rpc.system.name", event_type
    for member, name in _FLAGS.items():
        if isinstance(record.get(member), bool):
            yield name, record[member]
    for member, name in _MAPS.items():
        if as_object(record.get(member)):
            yield name, record[member]
    if record.get("sessionCredentialFromConsole") == "true":
        yield "aws.session.console", True
    if resources := record.get("resources"):
        listed = [dict(_renamed(as_object(one), _RESOURCE)) for one in resources]
        yield "aws.resources", listed
    yield from _tls_attributes(as_object(record.get("tlsDetails")))
    yield from _identity_attributes(as_object(record.get("userIdentity")))


def _tls_attributes(details: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    if version := details.get("tlsVersion"):
        yield "tls.protocol.version", str(version).removeprefix("TLSv")
    yield from _renamed(
        details, {"cipherSuite": "tls.cipher", "clientProvidedHostHeader": "server.address"}
    )


def _identity_attributes(identity: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    yield from _renamed(identity, _IDENTITY)
    session = as_object(identity.get("sessionContext"))
    attributes = as_object(session.get("attributes"))
    if "mfaAuthenticated" in attributes:
        yield f"{_SESSION}.attributes.mfa_authenticated", attributes["mfaAuthenticated"] == "true"
    yield from _renamed(attributes, {"creationDate": f"{_SESSION}.attributes.creation_date"})
    yield from _renamed(as_object(session.get("sessionIssuer")), _ISSUER)


def _renamed(members: Mapping[str, Any], names: Mapping[str, str]) -> Iterator[tuple[str, Any]]:
    """Yields the members with a value, by their names as attributes."""
    for member, name in names.items():
        value = members.get(member)
        if value not in (None, ""):
            yield name, str(value)


def _attribute(name: str, value: Any) -> Json:
    return {"key": name, "value": _any_value(value)}


def _any_value(value: Any) -> Json:
    """Returns a value in OTLP's form; numbers are doubles, like the collector's."""
    if value is None:
        return {}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int | float):
        return {"doubleValue": float(value)}
    if isinstance(value, dict):
        return {"kvlistValue": {"values": [_attribute(key, one) for key, one in value.items()]}}
    if isinstance(value, list):
        return {"arrayValue": {"values": [_any_value(one) for one in value]}}
    return {"stringValue": str(value)}
