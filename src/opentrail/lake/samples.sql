-- Sample queries: `-- NAME: DESCRIPTION`, then a statement.

-- top-callers: Principals by their number of calls
SELECT userIdentity.arn AS principal, count(*) AS calls FROM event_history
GROUP BY userIdentity.arn ORDER BY calls DESC, principal LIMIT 20;

-- errors: Errors by operation and code
SELECT eventSource, eventName, errorCode, count(*) AS errors FROM event_history
WHERE errorCode IS NOT NULL
GROUP BY eventSource, eventName, errorCode ORDER BY errors DESC LIMIT 20;

-- denied: Denied calls, newest first
SELECT eventTime, userIdentity.arn AS principal, eventSource, eventName, errorMessage
FROM event_history WHERE errorCode LIKE '%Denied%' OR errorCode LIKE '%Unauthorized%'
ORDER BY eventTime DESC LIMIT 50;

-- created-users: IAM users: who created them, when and from where
SELECT eventTime, userIdentity.arn AS creator,
  element_at(requestParameters, 'userName') AS created, sourceIPAddress
FROM event_history WHERE eventName = 'CreateUser' AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- new-access-keys: Access keys that were created, and for whom
SELECT eventTime, userIdentity.arn AS creator,
  json_extract_scalar(element_at(responseElements, 'accessKey'), '$.userName') AS owner,
  json_extract_scalar(element_at(responseElements, 'accessKey'), '$.accessKeyId') AS key
FROM event_history WHERE eventName = 'CreateAccessKey' AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- console-sign-ins: Sign-ins to the console, and whether they used MFA
SELECT eventTime, userIdentity.arn AS principal, sourceIPAddress,
  element_at(responseElements, 'ConsoleLogin') AS outcome,
  element_at(additionalEventData, 'MFAUsed') AS mfa
FROM event_history WHERE eventName = 'ConsoleLogin' ORDER BY eventTime DESC LIMIT 50;

-- root-activity: Calls of the root user
SELECT eventTime, eventSource, eventName, sourceIPAddress FROM event_history
WHERE userIdentity.type = 'Root' ORDER BY eventTime DESC LIMIT 50;

-- by-hour: Calls by weekday and hour (UTC)
SELECT day_of_week(eventTime) AS weekday, hour(eventTime) AS hour, count(*) AS calls
FROM event_history GROUP BY 1, 2 ORDER BY 1, 2;

-- source-addresses: Addresses from which each principal calls
SELECT userIdentity.arn AS principal,
  array_agg(DISTINCT sourceIPAddress ORDER BY sourceIPAddress) AS addresses
FROM event_history WHERE userIdentity.arn IS NOT NULL
GROUP BY userIdentity.arn HAVING count(DISTINCT sourceIPAddress) > 1;

-- deleted: Resources that were deleted
SELECT eventTime, userIdentity.arn AS principal, eventName, r.type, r.arn
FROM event_history CROSS JOIN UNNEST(resources) AS r (accountid, type, arn, arnprefix)
WHERE eventName LIKE 'Delete%' AND errorCode IS NULL ORDER BY eventTime DESC LIMIT 50;

-- rare-operations: Operations that were called only once
SELECT eventSource, eventName, min(eventTime) AS at, arbitrary(userIdentity.arn) AS by
FROM event_history GROUP BY eventSource, eventName HAVING count(*) = 1 ORDER BY at DESC;

-- user-agents: User agents by their number of calls
SELECT split(userAgent, '/')[1] AS program, count(*) AS calls FROM event_history
WHERE userAgent IS NOT NULL GROUP BY 1 ORDER BY calls DESC LIMIT 20;

-- assumed-roles: Roles that were assumed, by whom and how often
SELECT userIdentity.arn AS principal, element_at(requestParameters, 'roleArn') AS role,
  count(*) AS times, max(eventTime) AS last
FROM event_history WHERE eventName = 'AssumeRole' AND errorCode IS NULL
GROUP BY 1, 2 ORDER BY times DESC LIMIT 50;

-- role-sessions: Sessions of each role, with their number of calls
SELECT userIdentity.sessionContext.sessionIssuer.arn AS role, userIdentity.arn AS session,
  count(*) AS calls, min(eventTime) AS first, max(eventTime) AS last
FROM event_history WHERE userIdentity.type = 'AssumedRole'
GROUP BY 1, 2 ORDER BY last DESC LIMIT 50;

-- federated-sign-ins: Sessions that were started through SAML or OpenID Connect
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'roleArn') AS role, sourceIPAddress FROM event_history
WHERE eventName IN ('AssumeRoleWithSAML', 'AssumeRoleWithWebIdentity')
ORDER BY eventTime DESC LIMIT 50;

-- failed-sign-ins: Failed sign-ins to the console, by address
SELECT sourceIPAddress, count(*) AS failures, max(eventTime) AS last,
  array_agg(DISTINCT userIdentity.userName ORDER BY userIdentity.userName) AS users
FROM event_history WHERE eventName = 'ConsoleLogin'
  AND element_at(responseElements, 'ConsoleLogin') = 'Failure'
GROUP BY sourceIPAddress ORDER BY failures DESC LIMIT 50;

-- sign-ins-without-mfa: Successful sign-ins to the console without MFA
SELECT eventTime, userIdentity.arn AS principal, sourceIPAddress FROM event_history
WHERE eventName = 'ConsoleLogin' AND element_at(responseElements, 'ConsoleLogin') = 'Success'
  AND element_at(additionalEventData, 'MFAUsed') = 'No'
ORDER BY eventTime DESC LIMIT 50;

-- console-calls: Calls that people made in the console, by operation
SELECT userIdentity.arn AS principal, eventSource, eventName, count(*) AS calls
FROM event_history WHERE sessionCredentialFromConsole = 'true'
GROUP BY 1, 2, 3 ORDER BY calls DESC LIMIT 50;

-- passwords: Passwords that were set or changed
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'userName') AS user, sourceIPAddress FROM event_history
WHERE eventName IN ('CreateLoginProfile', 'UpdateLoginProfile', 'ChangePassword')
ORDER BY eventTime DESC LIMIT 50;

-- mfa-removed: MFA devices that were removed
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'userName') AS user FROM event_history
WHERE eventName IN ('DeactivateMFADevice', 'DeleteVirtualMFADevice') AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- access-keys-in-use: Access keys with their owner, number of calls and last use
SELECT userIdentity.accessKeyId AS key, arbitrary(userIdentity.arn) AS principal,
  count(*) AS calls, max(eventTime) AS last
FROM event_history WHERE userIdentity.accessKeyId LIKE 'AKIA%'
GROUP BY 1 ORDER BY last DESC LIMIT 50;

-- access-key-changes: Access keys that were deactivated, activated or deleted
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'accessKeyId') AS key,
  element_at(requestParameters, 'status') AS status FROM event_history
WHERE eventName IN ('UpdateAccessKey', 'DeleteAccessKey') AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- permissions-changed: Policies that were attached, detached, written or deleted
SELECT eventTime, userIdentity.arn AS principal, eventName,
  coalesce(element_at(requestParameters, 'userName'), element_at(requestParameters, 'roleName'),
    element_at(requestParameters, 'groupName')) AS target,
  coalesce(element_at(requestParameters, 'policyArn'),
    element_at(requestParameters, 'policyName')) AS policy FROM event_history
WHERE eventSource = 'iam.amazonaws.com' AND errorCode IS NULL
  AND regexp_like(eventName, '^(Attach|Detach|Put|Delete|Create|Set).*Policy')
ORDER BY eventTime DESC LIMIT 50;

-- administrators: Principals that received the policy AdministratorAccess
SELECT eventTime, userIdentity.arn AS principal, eventName,
  coalesce(element_at(requestParameters, 'userName'), element_at(requestParameters, 'roleName'),
    element_at(requestParameters, 'groupName')) AS target FROM event_history
WHERE eventName LIKE 'Attach%Policy'
  AND element_at(requestParameters, 'policyArn') LIKE '%/AdministratorAccess'
ORDER BY eventTime DESC LIMIT 50;

-- trust-policies: Changes of who may assume a role
SELECT eventTime, userIdentity.arn AS principal,
  element_at(requestParameters, 'roleName') AS role,
  element_at(requestParameters, 'policyDocument') AS policy FROM event_history
WHERE eventName = 'UpdateAssumeRolePolicy' AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- created-roles: IAM roles: who created them, when and from where
SELECT eventTime, userIdentity.arn AS principal,
  element_at(requestParameters, 'roleName') AS created, sourceIPAddress FROM event_history
WHERE eventName = 'CreateRole' AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- deleted-identities: IAM users, roles and groups that were deleted
SELECT eventTime, userIdentity.arn AS principal, eventName,
  coalesce(element_at(requestParameters, 'userName'), element_at(requestParameters, 'roleName'),
    element_at(requestParameters, 'groupName')) AS deleted FROM event_history
WHERE eventName IN ('DeleteUser', 'DeleteRole', 'DeleteGroup') AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- group-members: Users who were added to or removed from groups
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'userName') AS user,
  element_at(requestParameters, 'groupName') AS group_name FROM event_history
WHERE eventName IN ('AddUserToGroup', 'RemoveUserFromGroup') AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- new-principals: Principals by their first call, newest first
SELECT userIdentity.arn AS principal, min(eventTime) AS first, count(*) AS calls
FROM event_history WHERE userIdentity.arn IS NOT NULL
GROUP BY 1 ORDER BY first DESC LIMIT 50;

-- inactive-principals: Principals by their last call, oldest first
SELECT userIdentity.arn AS principal, max(eventTime) AS last, count(*) AS calls
FROM event_history WHERE userIdentity.arn IS NOT NULL
GROUP BY 1 ORDER BY last LIMIT 50;

-- other-accounts: Calls by principals of other accounts
SELECT userIdentity.accountId AS caller, recipientAccountId AS account, eventSource, eventName,
  count(*) AS calls
FROM event_history WHERE userIdentity.accountId <> recipientAccountId
GROUP BY 1, 2, 3, 4 ORDER BY calls DESC LIMIT 50;

-- unsigned-calls: Calls without a signature
SELECT eventTime, eventSource, eventName, sourceIPAddress, errorCode FROM event_history
WHERE userIdentity.principalId = 'ANONYMOUS_PRINCIPAL'
  OR userIdentity.accountId = 'ANONYMOUS_PRINCIPAL'
ORDER BY eventTime DESC LIMIT 50;

-- calls-by-services: Calls that AWS services made on behalf of others
SELECT userIdentity.invokedBy AS service, eventSource, eventName, count(*) AS calls
FROM event_history WHERE userIdentity.invokedBy IS NOT NULL
GROUP BY 1, 2, 3 ORDER BY calls DESC LIMIT 50;

-- security-groups: Changes of security groups
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'groupId') AS group_id,
  element_at(requestParameters, 'ipPermissions') AS rules FROM event_history
WHERE regexp_like(eventName, 'SecurityGroup') AND readOnly = false AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- open-to-everyone: Security group rules that any address may use
SELECT eventTime, userIdentity.arn AS principal,
  element_at(requestParameters, 'groupId') AS group_id,
  element_at(requestParameters, 'ipPermissions') AS rules FROM event_history
WHERE eventName = 'AuthorizeSecurityGroupIngress' AND errorCode IS NULL
  AND regexp_like(element_at(requestParameters, 'ipPermissions'), '0\.0\.0\.0/0|::/0')
ORDER BY eventTime DESC LIMIT 50;

-- network-changes: Changes of VPCs, routes, gateways and network ACLs
SELECT eventTime, userIdentity.arn AS principal, eventName, awsRegion FROM event_history
WHERE eventSource = 'ec2.amazonaws.com' AND readOnly = false AND errorCode IS NULL
  AND regexp_like(eventName, 'Vpc|Route|Gateway|NetworkAcl|Subnet')
ORDER BY eventTime DESC LIMIT 50;

-- suspicious-addresses: Addresses with many denied calls
SELECT sourceIPAddress, count(*) AS denied, count(DISTINCT eventName) AS operations,
  array_agg(DISTINCT userIdentity.arn ORDER BY userIdentity.arn) AS principals
FROM event_history WHERE errorCode LIKE '%Denied%' OR errorCode LIKE '%Unauthorized%'
GROUP BY sourceIPAddress ORDER BY denied DESC LIMIT 50;

-- tls-versions: TLS versions and ciphers of calls
SELECT tlsDetails.tlsVersion AS version, tlsDetails.cipherSuite AS cipher, count(*) AS calls
FROM event_history WHERE tlsDetails IS NOT NULL GROUP BY 1, 2 ORDER BY calls DESC;

-- vpc-endpoints: Calls through VPC endpoints
SELECT vpcEndpointId, eventSource, count(*) AS calls FROM event_history
WHERE vpcEndpointId IS NOT NULL GROUP BY 1, 2 ORDER BY calls DESC LIMIT 50;

-- bucket-access: Changes of bucket policies, ACLs and public access blocks
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'bucketName') AS bucket FROM event_history
WHERE eventSource = 's3.amazonaws.com' AND errorCode IS NULL AND eventName IN (
  'PutBucketPolicy', 'DeleteBucketPolicy', 'PutBucketAcl', 'PutBucketPublicAccessBlock',
  'DeleteBucketPublicAccessBlock')
ORDER BY eventTime DESC LIMIT 50;

-- created-buckets: S3 buckets: who created them, when and from where
SELECT eventTime, userIdentity.arn AS principal,
  element_at(requestParameters, 'bucketName') AS bucket, awsRegion, sourceIPAddress
FROM event_history WHERE eventName = 'CreateBucket' AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- object-readers: Principals that read S3 objects, by bucket
SELECT element_at(requestParameters, 'bucketName') AS bucket, userIdentity.arn AS principal,
  count(*) AS reads, count(DISTINCT element_at(requestParameters, 'key')) AS objects
FROM event_history WHERE eventName = 'GetObject' AND errorCode IS NULL
GROUP BY 1, 2 ORDER BY reads DESC LIMIT 50;

-- deleted-objects: S3 objects that were deleted
SELECT eventTime, userIdentity.arn AS principal,
  element_at(requestParameters, 'bucketName') AS bucket,
  element_at(requestParameters, 'key') AS key FROM event_history
WHERE eventName IN ('DeleteObject', 'DeleteObjects') AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- bytes-transferred: Bytes sent and received by S3, by bucket and principal
SELECT element_at(requestParameters, 'bucketName') AS bucket, userIdentity.arn AS principal,
  sum(TRY_CAST(element_at(additionalEventData, 'bytesTransferredIn') AS double)) AS received,
  sum(TRY_CAST(element_at(additionalEventData, 'bytesTransferredOut') AS double)) AS sent
FROM event_history WHERE eventSource = 's3.amazonaws.com' AND managementEvent = false
GROUP BY 1, 2 ORDER BY sent DESC NULLS LAST LIMIT 50;

-- tables: DynamoDB tables with their number of reads and writes
SELECT element_at(requestParameters, 'tableName') AS table_name,
  count_if(readOnly) AS reads, count_if(NOT readOnly) AS writes
FROM event_history WHERE eventSource = 'dynamodb.amazonaws.com'
  AND element_at(requestParameters, 'tableName') IS NOT NULL
GROUP BY 1 ORDER BY count(*) DESC LIMIT 50;

-- secrets-read: Secrets and parameters that were read, and by whom
SELECT userIdentity.arn AS principal, eventName,
  coalesce(element_at(requestParameters, 'secretId'),
    element_at(requestParameters, 'name')) AS name,
  count(*) AS reads, max(eventTime) AS last
FROM event_history WHERE eventName IN ('GetSecretValue', 'GetParameter', 'GetParameters')
GROUP BY 1, 2, 3 ORDER BY reads DESC LIMIT 50;

-- kms-keys: KMS keys that were disabled or scheduled for deletion
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'keyId') AS key FROM event_history
WHERE eventName IN ('DisableKey', 'ScheduleKeyDeletion', 'CancelKeyDeletion', 'EnableKey')
  AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- decryptions: Uses of KMS keys, by principal
SELECT r.arn AS key, userIdentity.arn AS principal, eventName, count(*) AS calls
FROM event_history CROSS JOIN UNNEST(resources) AS r (accountid, type, arn, arnprefix)
WHERE eventSource = 'kms.amazonaws.com'
GROUP BY 1, 2, 3 ORDER BY calls DESC LIMIT 50;

-- shared-snapshots: Snapshots and images that were shared
SELECT eventTime, userIdentity.arn AS principal, eventName, requestParameters
FROM event_history WHERE errorCode IS NULL AND eventName IN ('ModifySnapshotAttribute',
  'ModifyImageAttribute', 'ModifyDBSnapshotAttribute', 'ModifyDBClusterSnapshotAttribute')
ORDER BY eventTime DESC LIMIT 50;

-- launched-instances: EC2 instances that were launched, by type and principal
SELECT userIdentity.arn AS principal, awsRegion,
  element_at(requestParameters, 'instanceType') AS type, count(*) AS launches
FROM event_history WHERE eventName = 'RunInstances' AND errorCode IS NULL
GROUP BY 1, 2, 3 ORDER BY launches DESC LIMIT 50;

-- stopped-instances: EC2 instances that were stopped or terminated
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'instancesSet') AS instances FROM event_history
WHERE eventName IN ('StopInstances', 'TerminateInstances') AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- functions: Lambda functions whose code, settings or permissions changed
SELECT eventTime, userIdentity.arn AS principal, eventName,
  element_at(requestParameters, 'functionName') AS function_name FROM event_history
WHERE eventSource = 'lambda.amazonaws.com' AND readOnly = false AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- logging-changes: Changes of what is recorded
SELECT eventTime, userIdentity.arn AS principal, eventName, sourceIPAddress FROM event_history
WHERE eventName IN ('StopLogging', 'StartLogging', 'CreateTrail', 'UpdateTrail', 'DeleteTrail',
  'PutEventSelectors', 'PutInsightSelectors', 'CreateEventDataStore', 'UpdateEventDataStore',
  'DeleteEventDataStore', 'StopEventDataStoreIngestion') AND errorCode IS NULL
ORDER BY eventTime DESC LIMIT 50;

-- insights: Insights events
SELECT eventTime, element_at(insightDetails, 'insightType') AS type,
  element_at(insightDetails, 'state') AS state, element_at(insightDetails, 'eventName') AS operation
FROM event_history WHERE eventCategory = 'Insight'
ORDER BY eventTime DESC LIMIT 50;

-- services: Services by their number of calls and errors
SELECT eventSource, count(*) AS calls, count(errorCode) AS errors FROM event_history
GROUP BY eventSource ORDER BY calls DESC LIMIT 50;

-- regions: Regions by their number of calls, and the services used there
SELECT awsRegion, count(*) AS calls, array_agg(DISTINCT eventSource ORDER BY eventSource) AS services
FROM event_history GROUP BY awsRegion ORDER BY calls DESC;

-- accounts: Accounts by their number of calls and principals
SELECT recipientAccountId AS account, count(*) AS calls,
  count(DISTINCT userIdentity.arn) AS principals
FROM event_history GROUP BY recipientAccountId ORDER BY calls DESC LIMIT 50;

-- by-day: Calls per day, with reads, writes and errors
SELECT date(eventTime) AS day, count(*) AS calls, count_if(readOnly) AS reads,
  count_if(NOT readOnly) AS writes, count(errorCode) AS errors
FROM event_history GROUP BY 1 ORDER BY day DESC LIMIT 90;

-- busiest-minutes: Minutes with the most calls
SELECT date_trunc('minute', eventTime) AS minute, count(*) AS calls, count(DISTINCT eventName) AS operations
FROM event_history GROUP BY 1 ORDER BY calls DESC LIMIT 20;

-- throttled: Calls that were throttled, by principal and operation
SELECT userIdentity.arn AS principal, eventSource, eventName, errorCode, count(*) AS calls
FROM event_history WHERE regexp_like(errorCode, 'Throttl|TooManyRequests|SlowDown|LimitExceeded')
GROUP BY 1, 2, 3, 4 ORDER BY calls DESC LIMIT 50;

-- error-rates: Principals by the share of their calls that failed
SELECT userIdentity.arn AS principal, count(*) AS calls, count(errorCode) AS errors,
  round(100.0 * count(errorCode) / count(*), 1) AS percent
FROM event_history WHERE userIdentity.arn IS NOT NULL
GROUP BY 1 HAVING count(errorCode) > 0 ORDER BY percent DESC, calls DESC LIMIT 50;

-- writes: Changes by principal and service
SELECT userIdentity.arn AS principal, eventSource, count(*) AS changes, max(eventTime) AS last
FROM event_history WHERE readOnly = false AND errorCode IS NULL
GROUP BY 1, 2 ORDER BY changes DESC LIMIT 50;

-- new-operations: Operations that a principal called for the first time in the last week
SELECT userIdentity.arn AS principal, eventSource, eventName, min(eventTime) AS first
FROM event_history WHERE userIdentity.arn IS NOT NULL
GROUP BY 1, 2, 3 HAVING min(eventTime) > current_timestamp - INTERVAL '7' DAY
ORDER BY first DESC LIMIT 50;

-- previous-calls: Each change with the principal's call before it
SELECT eventTime, principal, eventName, before FROM (
  SELECT eventTime, userIdentity.arn AS principal, eventName, readOnly,
    lag(eventName) OVER (PARTITION BY userIdentity.arn ORDER BY eventTime, eventID) AS before
  FROM event_history)
WHERE readOnly = false AND before IS NOT NULL
ORDER BY eventTime DESC LIMIT 50;

-- top-callers-of-services: The three principals that call each service most
WITH counted AS (
  SELECT eventSource, userIdentity.arn AS principal, count(*) AS calls FROM event_history
  WHERE userIdentity.arn IS NOT NULL GROUP BY 1, 2),
ranked AS (
  SELECT *, row_number() OVER (PARTITION BY eventSource ORDER BY calls DESC, principal) AS place
  FROM counted)
SELECT eventSource, place, principal, calls FROM ranked
WHERE place <= 3 ORDER BY eventSource, place;

-- today-and-yesterday: Operations whose number of calls changed most since yesterday
SELECT eventSource, eventName,
  count_if(eventTime >= current_timestamp - INTERVAL '1' DAY) AS today,
  count_if(eventTime < current_timestamp - INTERVAL '1' DAY) AS yesterday
FROM event_history WHERE eventTime >= current_timestamp - INTERVAL '2' DAY GROUP BY 1, 2
ORDER BY abs(count_if(eventTime >= current_timestamp - INTERVAL '1' DAY)
  - count_if(eventTime < current_timestamp - INTERVAL '1' DAY)) DESC LIMIT 50;
