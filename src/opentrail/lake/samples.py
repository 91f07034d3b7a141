"""Sample queries over `event_history`: their names, descriptions and statements."""

from __future__ import annotations

from typing import NamedTuple


class Sample(NamedTuple):
    """A sample query."""

    name: str
    description: str
    statement: str


SAMPLES = (
    Sample(
        "top-callers",
        "Principals by their number of calls",
        "SELECT userIdentity.arn AS principal, count(*) AS calls FROM event_history\n"
        "GROUP BY userIdentity.arn ORDER BY calls DESC, principal LIMIT 20",
    ),
    Sample(
        "errors",
        "Errors by operation and code",
        "SELECT eventSource, eventName, errorCode, count(*) AS errors FROM event_history\n"
        "WHERE errorCode IS NOT NULL\n"
        "GROUP BY eventSource, eventName, errorCode ORDER BY errors DESC LIMIT 20",
    ),
    Sample(
        "denied",
        "Denied calls, newest first",
        "SELECT eventTime, userIdentity.arn AS principal, eventSource, eventName, errorMessage\n"
        "FROM event_history WHERE errorCode LIKE '%Denied%' OR errorCode LIKE '%Unauthorized%'\n"
        "ORDER BY eventTime DESC LIMIT 50",
    ),
    Sample(
        "created-users",
        "IAM users: who created them, when and from where",
        "SELECT eventTime, userIdentity.arn AS creator,\n"
        "  element_at(requestParameters, 'userName') AS created, sourceIPAddress\n"
        "FROM event_history WHERE eventName = 'CreateUser' AND errorCode IS NULL\n"
        "ORDER BY eventTime DESC LIMIT 50",
    ),
    Sample(
        "new-access-keys",
        "Access keys that were created, and for whom",
        "SELECT eventTime, userIdentity.arn AS creator,\n"
        "  json_extract_scalar(element_at(responseElements, 'accessKey'), '$.userName') AS owner,\n"
        "  json_extract_scalar(element_at(responseElements, 'accessKey'), '$.accessKeyId') AS key\n"
        "FROM event_history WHERE eventName = 'CreateAccessKey' AND errorCode IS NULL\n"
        "ORDER BY eventTime DESC LIMIT 50",
    ),
    Sample(
        "console-sign-ins",
        "Sign-ins to the console, and whether they used MFA",
        "SELECT eventTime, userIdentity.arn AS principal, sourceIPAddress,\n"
        "  element_at(responseElements, 'ConsoleLogin') AS outcome,\n"
        "  element_at(additionalEventData, 'MFAUsed') AS mfa\n"
        "FROM event_history WHERE eventName = 'ConsoleLogin' ORDER BY eventTime DESC LIMIT 50",
    ),
    Sample(
        "root-activity",
        "Calls of the root user",
        "SELECT eventTime, eventSource, eventName, sourceIPAddress FROM event_history\n"
        "WHERE userIdentity.type = 'Root' ORDER BY eventTime DESC LIMIT 50",
    ),
    Sample(
        "by-hour",
        "Calls by weekday and hour (UTC)",
        "SELECT day_of_week(eventTime) AS weekday, hour(eventTime) AS hour, count(*) AS calls\n"
        "FROM event_history GROUP BY 1, 2 ORDER BY 1, 2",
    ),
    Sample(
        "source-addresses",
        "Addresses from which each principal calls",
        "SELECT userIdentity.arn AS principal,\n"
        "  array_agg(DISTINCT sourceIPAddress ORDER BY sourceIPAddress) AS addresses\n"
        "FROM event_history WHERE userIdentity.arn IS NOT NULL\n"
        "GROUP BY userIdentity.arn HAVING count(DISTINCT sourceIPAddress) > 1",
    ),
    Sample(
        "deleted",
        "Resources that were deleted",
        "SELECT eventTime, userIdentity.arn AS principal, eventName, r.type, r.arn\n"
        "FROM event_history CROSS JOIN UNNEST(resources) AS r (accountid, type, arn, arnprefix)\n"
        "WHERE eventName LIKE 'Delete%' AND errorCode IS NULL ORDER BY eventTime DESC LIMIT 50",
    ),
    Sample(
        "rare-operations",
        "Operations that were called only once",
        "SELECT eventSource, eventName, min(eventTime) AS at, arbitrary(userIdentity.arn) AS by\n"
        "FROM event_history GROUP BY eventSource, eventName HAVING count(*) = 1 ORDER BY at DESC",
    ),
    Sample(
        "user-agents",
        "User agents by their number of calls",
        "SELECT split(userAgent, '/')[1] AS program, count(*) AS calls FROM event_history\n"
        "WHERE userAgent IS NOT NULL GROUP BY 1 ORDER BY calls DESC LIMIT 20",
    ),
)
