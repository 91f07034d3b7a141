"""The names that a search expression can compare."""

from __future__ import annotations

from collections.abc import Mapping

#: Field of `Attributes` → its names, in any case: the record's or LookupEvents', then short ones.
NAMES: Mapping[str, tuple[str, ...]] = {
    "event_id": ("eventID", "id"),
    "event_name": ("eventName", "event", "name"),
    "event_source": ("eventSource", "source", "service"),
    "username": ("username", "user"),
    "access_key_id": ("accessKeyId", "key"),
    "principal_arn": ("arn", "principal"),
    "source_ip": ("sourceIPAddress", "sourceIp", "ip"),
    "error_code": ("errorCode", "error"),
    "region": ("awsRegion", "region"),
    "account": ("recipientAccountId", "account"),
    "category": ("eventCategory", "category"),
    "read_only": ("readOnly",),
    "agent": ("agent",),
    "resource_names": ("resourceName", "resource"),
    "resource_types": ("resourceType",),
    "event_time": ("eventTime", "time"),
}
#: Name in lower case → field of `Attributes`.
FIELDS: Mapping[str, str] = {
    name.lower(): field for field, names in NAMES.items() for name in names
}
#: Members of a record that a path may begin with.
MEMBERS = frozenset(
    {
        "addendum",
        "additionalEventData",
        "annotation",
        "apiVersion",
        "detectionDetails",
        "edgeDeviceDetails",
        "errorMessage",
        "eventContext",
        "eventType",
        "eventVersion",
        "insightDetails",
        "managementEvent",
        "requestID",
        "requestParameters",
        "resources",
        "responseElements",
        "serviceEventDetails",
        "sessionCredentialFromConsole",
        "sharedEventID",
        "tlsDetails",
        "userAgent",
        "userIdentity",
        "vpcEndpointAccountId",
        "vpcEndpointId",
    }
)
