"""AWS's documentation of CloudTrail's records, restated by hand for the expectations.

Sources: cloudtrail-format §3, §4 and §8.2 (user guides of AWS), real records.
Nothing here comes from opentrail's own tables, so that both are unlikely to share an error.
"""

from __future__ import annotations

import re

#: botocore's service → first label of eventSource; else the last label of the endpoint prefix.
EVENT_SOURCES = {
    "apigatewaymanagementapi": "apigateway",
    "appconfigdata": "appconfig",  # AppConfig guide, sample of StartConfigurationSession
    "appstream": "appstream",  # AppStream guide, sample of AssociateFleet
    "autoscaling-plans": "autoscaling",  # cloudtrail-format §3.1
    "bedrock-agent": "bedrock",
    "bedrock-agent-runtime": "bedrock",
    "bedrock-agentcore-control": "bedrock-agentcore",  # cloudtrail-format §3.1, "AgentCore"
    "bedrock-data-automation": "bedrock",
    "bedrock-data-automation-runtime": "bedrock",
    "bedrock-runtime": "bedrock",
    "chime-sdk-identity": "chime",  # Chime SDK guide, "Logging with CloudTrail"
    "chime-sdk-media-pipelines": "chime-sdk-media-pipelines",  # the guide's sample
    "chime-sdk-meetings": "chime",
    "chime-sdk-messaging": "chime",
    "chime-sdk-voice": "chime",
    "cloudhsmv2": "cloudhsm",
    "docdb": "rds",
    "dynamodbstreams": "dynamodb",
    "iot-data": "iotdata",
    "lexv2-models": "lex",  # Lex V2 guide, sample of CreateBotAlias
    "lexv2-runtime": "lex",
    "marketplace-catalog": "marketplacecatalog",  # its guide, sample of ListEntities
    "memorydb": "memorydb",
    "meteringmarketplace": "metering-marketplace",  # Marketplace guide, sample of BatchMeterUsage
    "mq": "amazonmq",
    "neptune": "rds",
    "opensearch": "es",
    "pinpoint": "mobiletargeting",
    "pinpoint-email": "ses",  # cloudtrail-format §3.1: endpoint `email`
    "pinpoint-sms-voice": "sms-voice",  # cloudtrail-format §3.1
    "rds-data": "rdsdata",
    "s3control": "s3",
    "ses": "ses",
    "sesv2": "ses",
    "signer-data": "signer",  # its one operation is Signer's, too
    "sms-voice": "sms-voice",
    "sso-oidc": "sso-oauth",
    "stepfunctions": "states",
}

#: Recorded in us-east-1 from every Region (cloudtrail-format §8.2).
GLOBAL_SOURCES = frozenset(
    ["iam", "cloudfront", "route53", "organizations", "account", "waf", "shield", "support"]
)

_LAMBDA_DATES = {
    "20150331": "CreateAlias CreateEventSourceMapping CreateFunction DeleteAlias"
    " DeleteEventSourceMapping DeleteFunction GetAlias GetEventSourceMapping ListAliases"
    " ListEventSourceMappings ListFunctions ListVersionsByFunction PublishVersion UpdateAlias"
    " UpdateEventSourceMapping",
    "20150331v2": "AddPermission GetFunction GetFunctionConfiguration GetPolicy RemovePermission"
    " UpdateFunctionCode UpdateFunctionConfiguration",
    "20160819": "GetAccountSettings",
    "20170331": "ListTags",
    "20170331v2": "TagResource UntagResource",
    "20171031": "DeleteFunctionConcurrency PutFunctionConcurrency",
    "20181031": "AddLayerVersionPermission DeleteLayerVersion GetLayerVersion ListLayers"
    " PublishLayerVersion",
}
#: Service → operation → eventName (cloudtrail-format §3.2).
EVENT_NAMES: dict[str, dict[str, str]] = {
    "lambda": {
        name: name + date for date, names in _LAMBDA_DATES.items() for name in names.split()
    },
    "s3": {
        "DeletePublicAccessBlock": "DeleteBucketPublicAccessBlock",
        "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
        "GetBucketLifecycleConfiguration": "GetBucketLifecycle",
        "GetBucketNotificationConfiguration": "GetBucketNotification",
        "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
        "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
        "ListObjectsV2": "ListObjects",
        "PutBucketAccelerateConfiguration": "PutAccelerateConfiguration",
        "PutBucketLifecycleConfiguration": "PutBucketLifecycle",
        "PutBucketNotificationConfiguration": "PutBucketNotification",
        "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
        "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    },
    "s3control": {
        "DeletePublicAccessBlock": "DeleteAccountPublicAccessBlock",
        "GetPublicAccessBlock": "GetAccountPublicAccessBlock",
        "PutPublicAccessBlock": "PutAccountPublicAccessBlock",
    },
}

READ_PREFIXES = (
    *("BatchGet", "Describe", "Get", "Head", "List"),
    *("Lookup", "Query", "Scan", "Search", "Select"),
)
#: Event source → operations that are read-only despite their names.
READ_ONLY = {
    "bedrock": "Converse ConverseStream InvokeModel InvokeModelWithResponseStream",
    "dynamodb": "TransactGetItems",
    "iam": "SimulateCustomPolicy SimulatePrincipalPolicy",
    "kms": "Decrypt Encrypt GenerateDataKey GenerateDataKeyPair"
    " GenerateDataKeyPairWithoutPlaintext GenerateDataKeyWithoutPlaintext GenerateMac"
    " GenerateRandom ReEncrypt Sign Verify VerifyMac",
    "sts": "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot"
    " DecodeAuthorizationMessage",
}
NOT_READ_ONLY = {
    # Cognito guide, "Example Amazon Cognito events".
    "cognito-identity": "GetCredentialsForIdentity GetId GetOpenIdToken"
    " GetOpenIdTokenForDeveloperIdentity",
    "sts": "GetFederationToken",
}
#: Read-only, but recorded with their answers, as these return credentials.
ANSWER_KEPT = {
    "sts": "AssumeRole AssumeRoleWithSAML AssumeRoleWithWebIdentity AssumeRoot GetSessionToken",
}
#: They change state, but their answers are data.
ANSWER_LEFT_OUT = {
    "cloudtrail-data": "PutAuditEvents",
    "dynamodb": "BatchExecuteStatement DeleteItem ExecuteStatement"
    " ExecuteTransaction PutItem TransactWriteItems UpdateItem",
    "rdsdata": "BatchExecuteStatement ExecuteSql ExecuteStatement",
    "sqs": "ReceiveMessage",
}

#: Event source → operations that are data events (cloudtrail-format §3.3).
DATA_OPERATIONS = {
    "appconfig": "GetLatestConfiguration StartConfigurationSession",
    "bedrock": "ApplyGuardrail InvokeAgent InvokeFlow InvokeInlineAgent Retrieve"
    " RetrieveAndGenerate RetrieveAndGenerateStream",
    "cloudtrail-data": "PutAuditEvents",
    "cognito-identity": "GetCredentialsForIdentity GetId GetOpenIdToken"
    " GetOpenIdTokenForDeveloperIdentity UnlinkIdentity",
    "dynamodb": "BatchExecuteStatement BatchGetItem BatchWriteItem DeleteItem ExecuteStatement"
    " ExecuteTransaction GetItem PutItem Query Scan TransactGetItems TransactWriteItems"
    " UpdateItem GetRecords GetShardIterator",
    "ebs": "GetSnapshotBlock ListChangedBlocks ListSnapshotBlocks PutSnapshotBlock",
    "events": "PutEvents PutPartnerEvents",
    "firehose": "PutRecord PutRecordBatch",
    "kinesis": "GetRecords GetShardIterator PutRecord PutRecords SubscribeToShard",
    "lambda": "Invoke InvokeAsync InvokeWithResponseStream",
    "monitoring": "GetMetricData GetMetricStatistics GetMetricWidgetImage ListMetrics"
    " PutMetricData",
    "rdsdata": "BatchExecuteStatement BeginTransaction CommitTransaction ExecuteSql"
    " ExecuteStatement RollbackTransaction",
    "s3": "AbortMultipartUpload CompleteMultipartUpload CopyObject CreateMultipartUpload"
    " DeleteObject DeleteObjectAnnotation DeleteObjectTagging DeleteObjects GetObject"
    " GetObjectAcl GetObjectAnnotation GetObjectAttributes GetObjectLegalHold"
    " GetObjectRetention GetObjectTagging GetObjectTorrent HeadBucket HeadObject"
    " ListObjectAnnotations ListObjectVersions ListObjects ListObjectsV2 ListParts PutObject"
    " PutObjectAcl PutObjectAnnotation PutObjectLegalHold PutObjectRetention PutObjectTagging"
    " RenameObject RestoreObject SelectObjectContent UpdateObjectEncryption UploadPart"
    " UploadPartCopy WriteGetObjectResponse",
    "s3-object-lambda": "WriteGetObjectResponse",
    "sagemaker": "InvokeEndpoint InvokeEndpointAsync InvokeEndpointWithResponseStream",
    "ses": "SendBulkEmail SendBulkTemplatedEmail SendEmail SendRawEmail SendTemplatedEmail",
    "sns": "Publish PublishBatch",
    "states": "GetActivityTask",
    "sqs": "ChangeMessageVisibility ChangeMessageVisibilityBatch DeleteMessage"
    " DeleteMessageBatch ReceiveMessage SendMessage SendMessageBatch",
    "xray": "BatchGetTraces GetTraceSummaries PutTraceSegments",
}

_TAGGING = ("ListTagsForResource", "TagResource", "UntagResource")
#: Operations that another service also has in the same bytes: recorded under that service.
SAME_ON_THE_WIRE = {
    **{
        (f"chime-sdk-{name}", operation): "chime-sdk-identity"
        for name in ("media-pipelines", "meetings", "messaging", "voice")
        for operation in _TAGGING
    },
    **{("ivs-realtime", operation): "ivs" for operation in _TAGGING},
    **{("lambda-microvms", verb): "lambda" for verb in ("ListTags", *_TAGGING[1:])},
}
#: Lex V2 also has the operations of Lex V1, with different capitals in the member.
RENAMED = {("lex-models", operation): {"resourceArn": "resourceARN"} for operation in _TAGGING}
RENAMED["dynamodb", "BatchExecuteStatement"] = {"statements": "requestItems"}
RENAMED["dynamodb", "TransactWriteItems"] = {"transactItems": "requestItems"}
#: Parameters that have a value in the record if the call omits them (KMS guide, "Decrypt").
DEFAULTS = {
    ("kms", "Decrypt"): {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"},
    ("kms", "Encrypt"): {"encryptionAlgorithm": "SYMMETRIC_DEFAULT"},
    ("kms", "ReEncrypt"): {
        "sourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "destinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
    },
}
#: EC2's members that AWS leaves out: operation → names (33 of 33 real records).
LEFT_OUT = {"DescribeVpcAttribute": frozenset({"attribute"})}
#: Services whose records carry the version of their API (real records, "Names and casing").
API_VERSIONS = {
    "cloudfront": "2020_05_31",
    "dynamodb": "2012-08-10",
    "dynamodbstreams": "2012-08-10",  # DynamoDB guide, example of GetRecords
    "elb": "2012-06-01",
    "elbv2": "2015-12-01",
    "events": "2015-10-07",  # EventBridge guide, examples of data events
    "logs": "20140328",
    "route53": "2013-04-01",
}
#: Services whose names keep their capitals (57 of 57 keys of real records).
AS_MODELLED = frozenset({"account", "ce", "devops-guru", "resource-explorer-2"})
#: Single members with special names.
MEMBER_NAMES = {
    ("sqs", "AWSAccountIds"): "AWSAccountIds",  # AWS's SQS guide, AddPermission
}
#: Members of answers: 40 of 40 real records (cloudtrail-format §4.1).
ANSWER_NAMES = {("secretsmanager", "ARN"): "arn"}
#: The only structure in an answer is left out around its members: 153 keys of real
#: records of RDS, whose API Neptune and DocumentDB share (cloudtrail-format §2.5).
UNWRAPPED_ANSWERS = frozenset({"rds", "neptune", "docdb"})
#: Times as on the wire, ISO 8601 (7 of 7 real records).
ISO_TIMES = frozenset({"bedrock", "rolesanywhere"})
WITHOUT_SECOND_COMMA = frozenset({"athena", "iam", "ssm"})

# Redaction (cloudtrail-format §4.4), by event source; "*" is every source. Names as recorded.
REMOVED = {
    "*": "password secretAccessKey privateKey webIdentityToken sAMLAssertion",
    "cloudtrail-data": "auditEvents",
    "cognito-identity": "Credentials.secretKey GetOpenIdTokenResponse.token"
    " GetOpenIdTokenForDeveloperIdentityResponse.token",
    "dynamodb": "expressionAttributeValues",
    "ec2": "clientSecret keyMaterial passwordData preSharedKey userData",  # or a mark instead
    "iam": "authenticationCode1 authenticationCode2 base32StringSeed newPassword oldPassword"
    " qRCodePNG",
    "kms": "ciphertextBlob keyMaterial message plaintext privateKeyCiphertextBlob"
    " privateKeyPlaintext recipient sharedSecretCiphertextBlob",
    "lambda": "variables zipFile",
    "secretsmanager": "secretBinary secretString",
}
HIDDEN_NAMES = {
    "*": "sessionToken",
    "amplifybackend": "challengeCode",
    "apigateway": "ApiKey.value CreateApiKeyRequest.value",
    "appflow": "ConnectorOAuthRequest.authCode"
    " DatadogConnectorProfileCredentials.applicationKey"
    " InforNexusConnectorProfileCredentials.datakey",
    "appsync": "ApiKey.id DeleteApiKeyRequest.id UpdateApiKeyRequest.id",
    "bedrock": "text",
    "braket": "jobToken",
    # A phone number's id is sensitive in the model of chime-sdk-voice, a twin of chime's.
    "chime": "User.personalPIN phoneNumberId",
    "cloudwatch-omni": "OAuthCodeCredential.authCode",
    "codebuild": "SourceAuth.resource SSMSession.tokenValue Webhook.secret",
    "cognito-idp": "confirmationCode VerifyUserAttributeRequest.code",
    "comprehend": "text textList",
    "datazone": "AuthorizationCodeProperties.authorizationCode ManagedEndpointCredentials.token",
    "eks": "ConnectorConfigResponse.activationCode License.token",
    "elasticbeanstalk": "ConfigurationOptionSetting.value",
    "events": "PutEventsRequestEntry.detail PutPartnerEventsRequestEntry.detail"
    " TestEventPatternRequest.event",
    "evs": "GetDepotUrlResponse.token",
    "firehose": "hECToken",
    "gamelift": "InstanceCredentials.secret playerGatewayToken",
    "grafana": "grafanaToken",
    "iam": "addPrivateKey",
    "invoicing": "VerifyProcurementPortalValidationRequest.code",
    "iot": "ConfirmTopicRuleDestinationRequest.confirmationToken"
    " SalesforceAction.token TestInvokeAuthorizerRequest.token"
    " TestInvokeAuthorizerRequest.tokenSignature",
    "iotwireless": "appKey appSKey fNwkSIntKey genAppKey nwkKey nwkSEncKey nwkSKey sNwkSIntKey",
    "kendra": "UserContext.token",
    "lambda": "AddPermissionRequest.eventSourceToken",
    "license-manager": "signedToken token",
    "logs": "InputLogEvent.message",
    "managedblockchain": "billingToken",
    "mediaconvert": "NexGuardFileMarkerSettings.license staticKeyValue",
    "medialive": "HlsAkamaiSettings.salt HlsAkamaiSettings.token staticKeyValue",
    "metering-marketplace": "ResolveCustomerRequest.registrationToken",
    "mobiletargeting": "BaiduChannelRequest.apiKey BaiduChannelResponse.credential"
    " GCMChannelRequest.apiKey GCMChannelRequest.serviceJson"
    " GCMChannelResponse.credential tokenKey"
    " VerifyOTPMessageRequestParameters.otp",
    "odb": "marketplaceRegistrationToken",
    "polly": "StartSpeechSynthesisTaskInput.text SynthesizeSpeechInput.text",
    "qapps": "CreatePresignedUrlOutput.presignedUrlFields",
    "quicksight": "GetIdentityContextResponse.context userInvitationUrl",
    "rds": "preSignedUrl",  # sensitive in RDS's model; Neptune's and DocumentDB's forget it
    "rdsdata": "parameters parameterSets",
    "redshift-serverless": "GetIdentityCenterAuthTokenResponse.token",
    "sagemaker": "StartSessionResponse.tokenValue",
    "securityhub": "AwsEc2VpnConnectionDetails.customerGatewayConfiguration"
    " RegisterConnectorV2Request.authCode",
    "securitylake": "authorizationApiKeyValue",
    "ses": "EmailTemplateContent.html EmailTemplateContent.subject"
    " EmailTemplateContent.text data defaultTemplateData"
    " replacementTemplateData templateData",
    "securityagent": "AzureDevOpsIntegrationInput.code BitbucketDataCenterIntegrationInput.code"
    " BitbucketIntegrationInput.code ConfluenceIntegrationInput.code"
    " GitHubIntegrationInput.code JiraIntegrationInput.code",
    "signin": "codeVerifier CreateOAuth2TokenRequestBody.code",
    "sms-voice": "VerifyDestinationNumberRequest.verificationCode",
    "snowball": "unlockCode",
    "sns": "message messageAttributes subject ConfirmSubscriptionInput.token",
    "sqs": "body messageAttributes messageBody messageSystemAttributes",
    "ssm": "activationCode streamUrl tokenValue",
    "ssm-contacts": "AcceptPageRequest.acceptCode ActivateContactChannelRequest.activationCode",
    "sso-oauth": "CreateTokenRequest.code CreateTokenWithIAMRequest.code deviceCode userCode",
    "sts": "authenticationCode1 authenticationCode2 tokenCode tradeInToken"
    " ProvidedContext.contextAssertion",
    "translate": "text translatedText",
    "wickr": "GetOidcInfoRequest.code codeVerifier inviteCode",
    "workmail": "AssumeImpersonationRoleResponse.token",
}
#: Members with pairs or maps whose names are shown and whose values are not.
NAMED_VALUES = {
    "cognito-identity": "logins",
    # Parameters of templates; the cases' templates are invalid, so no value is shown.
    "cloudformation": "parameterOverrides parameters",
    "config": "conformancePackInputParameters",
    "serverlessrepo": "parameterOverrides",
    "servicecatalog": "provisioningParameters",
    "sagemaker": "CfnCreateTemplateProvider.parameters CfnTemplateProviderDetail.parameters"
    " CfnUpdateTemplateProvider.parameters provisioningParameters",
    "elasticmapreduce": "Configuration.properties",
    "greengrass": "FunctionConfigurationEnvironment.variables",
    "securityhub": "AwsElasticBeanstalkEnvironmentDetails.optionSettings"
    " AwsLambdaFunctionEnvironment.variables",
}
#: Names of members that hold environment variables, in every service.
ENVIRONMENTS = re.compile(
    r"(additional|container|exported|execution|runtime)?environmentvariables(override)?"
    r"|(override|optimization)?environment(override)?|env(vars)?",
    re.IGNORECASE,
)
#: The name and the value of such a pair.
PAIRS = (
    *(("name", "value"), ("Name", "Value"), ("OptionName", "Value"), ("Key", "Value")),
    *(("ParameterKey", "ParameterValue"), ("ParameterName", "ParameterValue")),
)
#: AWS's own marks, by the placeholder.
MARKED = {
    "***OMITTED***": {"athena": "queryString", "redshift-data": "sql sqls"},
    "**********": {"rdsdata": "database schema sql sqlStatements"},
}
SHOWN_NAMES = {"iam": "removePrivateKey", "sts": "subjectFromWebIdentityToken"}
#: PartiQL: parts between single quotes, and numbers, are hidden.
STATEMENTS = {"dynamodb": "statement"}
SECRET_NAME = re.compile(
    r"password|passphrase|secret_?(access_?)?key|secret_?string|secret_?binary"
    r"|(client|shared)_?secret|private_?key|plain_?text|zip_?file|user_?data"
    r"|(auth|session|security|access|refresh|bearer|identity|jwt|secret|authorization|participant"
    r"|connection)_?tokens?$|auth_?key$|pre_?shared_?keys?$|^credentials$",
    re.IGNORECASE,
)
#: Tokens whose names end in or begin with this, with these capitals.
SECRET_TOKEN = re.compile(r"((^|_)(id|api)|Id|ID|Api|API)_?[Tt]okens?$")
#: Names of metadata about a secret.
ABOUT_A_SECRET = re.compile(
    r"(arn|id|identifier|name|version|algorithm|type|mode|source|link|param|xpath|json_?key"
    r"|string_?key|format|policy|status|state|length)s?$",
    re.IGNORECASE,
)


def names_secret(name: str) -> bool:
    """Returns whether strings in a member with this name are secrets."""
    found = SECRET_NAME.search(name) or SECRET_TOKEN.search(name)
    return bool(found) and not ABOUT_A_SECRET.search(name)


def listed(table: dict[str, str], source: str, name: str) -> bool:
    """Returns whether a table names `name` for an event source, or for all."""
    return name in table.get(source, "").split() or name in table.get("*", "").split()
