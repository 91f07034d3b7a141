"""The store `event_history`: event history as a table with CloudTrail Lake's columns."""

from __future__ import annotations

import uuid
from dataclasses import replace

from opentrail.core.arns import STORE, CloudTrailArn
from opentrail.core.event import ACTIVITY, MANAGEMENT
from opentrail.lake.dialect.record_members import WholeRecord, member
from opentrail.lake.dialect.scopes import QueryTable, Value
from opentrail.lake.dialect.types import BOOLEAN, TIMESTAMP, VARCHAR, Type, array, map_of, row

NAME = "event_history"
#: The view that a query's process makes of event history.
VIEW = "visible_events"
_NAMESPACE = uuid.UUID("6d7b3f0e-3c5a-4f7e-9d7e-4a4cbb1d2f10")


def store_id(account: str) -> str:
    """Returns the id of an account's store: the same on every server and after every start."""
    return str(uuid.uuid5(_NAMESPACE, f"{NAME}/{account}"))


def store_arn(region: str, account: str) -> str:
    """Returns the ARN of an account's store in a Region."""
    return str(CloudTrailArn(STORE, region, account, store_id(account)))


def _texts(names: str) -> list[tuple[str, Type]]:
    return [(name, VARCHAR) for name in names.split()]


_MAP = map_of(VARCHAR, VARCHAR)
_ISSUER = row(*_texts("type principalId arn accountId userName"))
_SESSION = row(
    ("attributes", row(("creationDate", TIMESTAMP), ("mfaAuthenticated", VARCHAR))),
    ("sessionIssuer", _ISSUER),
    ("webIdFederationData", row(("federatedProvider", VARCHAR), ("attributes", _MAP))),
    *_texts("sourceIdentity ec2RoleDelivery ec2IssuedInVpc"),
)
_IDENTITY = row(
    *_texts("type principalId arn accountId accessKeyId userName"),
    ("sessionContext", _SESSION),
    ("onBehalfOf", row(*_texts("userId identityStoreArn"))),
    ("inScopeOf", row(*_texts("sourceArn sourceAccount issuerType credentialsIssuedTo"))),
    *_texts("invokedBy identityProvider"),
)
#: Members of the record, in the order of CloudTrail Lake's schema; most are text.
_MEMBERS: dict[str, Type] = {
    "eventVersion": VARCHAR,
    "userIdentity": _IDENTITY,
    "eventTime": TIMESTAMP,
    **dict(
        _texts("eventSource eventName awsRegion sourceIPAddress userAgent errorCode errorMessage")
    ),
    **dict.fromkeys(("requestParameters", "responseElements", "additionalEventData"), _MAP),
    **dict(_texts("requestID eventID")),
    "readOnly": BOOLEAN,
    "resources": array(row(*_texts("accountId type ARN ARNPrefix"))),
    **dict(_texts("eventType apiVersion")),
    "managementEvent": BOOLEAN,
    **dict(
        _texts("recipientAccountId sharedEventID annotation vpcEndpointId vpcEndpointAccountId")
    ),
    **dict.fromkeys(
        ("serviceEventDetails", "addendum", "edgeDeviceDetails", "insightDetails"), _MAP
    ),
    "eventCategory": VARCHAR,
    "tlsDetails": row(*_texts("tlsVersion cipherSuite clientProvidedHostHeader")),
    "sessionCredentialFromConsole": VARCHAR,
}
_OTHER_IDENTITY = row(*_texts("type principalId"), ("details", _MAP))
#: The same for events that other services send to channels.
_ACTIVITY_MEMBERS: dict[str, Type] = {
    **dict(_texts("eventVersion eventCategory eventType eventID")),
    "eventTime": TIMESTAMP,
    **dict(_texts("awsRegion recipientAccountId")),
    "addendum": row(*_texts("reason updatedFields originalUID originalEventID")),
    "metadata": row(*_texts("ingestionTime channelARN")),
    "eventData": row(
        *_texts("version"),
        ("userIdentity", _OTHER_IDENTITY),
        *_texts("userAgent eventSource eventName eventTime UID"),
        ("requestParameters", _MAP),
        ("responseElements", _MAP),
        *_texts("errorCode errorMessage sourceIPAddress recipientAccountId"),
        ("additionalEventData", _MAP),
    ),
}
#: Members that event history also stores as columns, which are read without parsing JSON.
_STORED = {
    "eventTime": "make_timestamp(event_time * 1000000)",
    "eventSource": "event_source",
    "eventName": "event_name",
    "errorCode": "error_code",
    "awsRegion": "nullif(region, '')",
    "sourceIPAddress": "source_ip",
}
#: Stored columns on which a condition implies one; see `Value.stored`.
_SEARCHED = {"eventTime": "event_time", "awsRegion": "region", "eventCategory": "category"}


def _columns() -> list[tuple[str, Value]]:
    columns = []
    for name, kind in _MEMBERS.items():
        stored = _STORED.get(name)
        value = Value(stored, kind) if stored is not None else member((name,), kind)
        columns.append((name.lower(), replace(value, stored=_SEARCHED.get(name))))
    return [*columns, *_record_columns("record")]


def _record_columns(record: str) -> list[tuple[str, Value]]:
    checksum = f"to_base64(unhex(sha256({record})))"
    return [
        ("eventjson", Value(record, VARCHAR)),
        ("eventjsonchecksum", Value(checksum, VARCHAR)),
    ]


def _members(family: str) -> dict[str, Type]:
    return _ACTIVITY_MEMBERS if family == ACTIVITY else _MEMBERS


def schema(family: str = MANAGEMENT) -> dict[str, Type]:
    """Returns the columns that statements see, in order.

    Args:
        family: `EventDataStore.family`.
    """
    return {**_members(family), "eventJson": VARCHAR, "eventJsonChecksum": VARCHAR}


#: What statements see.
TABLE = QueryTable(VIEW, _columns())


def typed(rows: str, family: str) -> str:
    """Returns the query that makes the columns of a created store from a column of records."""
    record = WholeRecord()
    values = {name: record.typed(name, kind) for name, kind in _members(family).items()}
    values["eventTime"] = f"date_trunc('second', {record.typed('eventTime', TIMESTAMP)})"
    values["awsRegion"] = f"nullif({record.typed('awsRegion', VARCHAR)}, '')"
    shown = ", ".join(f"{value} AS {name.lower()}" for name, value in values.items())
    return f"SELECT {shown}, record AS eventjson FROM (SELECT record, {record.columns} FROM {rows})"


def typed_table(view: str, family: str) -> QueryTable:
    """Returns the table of a created store, whose view has the columns of `typed`."""
    members = _members(family)
    columns = [(name.lower(), Value(name.lower(), kind)) for name, kind in members.items()]
    return QueryTable(view, [*columns, *_record_columns("eventjson")])
