"""The names that a search expression can compare."""

from __future__ import annotations

from collections.abc import Mapping

#: Name in lower case → field of `Attributes`; LookupEvents' names, the record's, and short ones.
FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("eventid", "id"), "event_id"),
    **dict.fromkeys(("eventname", "event", "name"), "event_name"),
    **dict.fromkeys(("eventsource", "source", "service"), "event_source"),
    **dict.fromkeys(("username", "user"), "username"),
    **dict.fromkeys(("accesskeyid", "key"), "access_key_id"),
    **dict.fromkeys(("principal", "arn"), "principal_arn"),
    **dict.fromkeys(("sourceipaddress", "sourceip", "ip"), "source_ip"),
    **dict.fromkeys(("errorcode", "error"), "error_code"),
    **dict.fromkeys(("awsregion", "region"), "region"),
    **dict.fromkeys(("recipientaccountid", "account"), "account"),
    **dict.fromkeys(("eventcategory", "category"), "category"),
    "readonly": "read_only",
    "agent": "agent",
    **dict.fromkeys(("resourcename", "resource"), "resource_names"),
    "resourcetype": "resource_types",
    **dict.fromkeys(("eventtime", "time"), "event_time"),
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
