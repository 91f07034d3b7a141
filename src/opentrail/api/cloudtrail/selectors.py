"""The operations on a trail's selection: events, Insights types, and aggregations.

Data events have AWS's documented resource types (cloudtrail-format §3.3).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

from opentrail.api.cloudtrail.operation import OperationCall, operation
from opentrail.core.errors import CloudTrailError
from opentrail.core.event import Json
from opentrail.core.insight_types import check_insights, insight_selectors
from opentrail.core.selectors import Selection, SelectorOwner, read_selection
from opentrail.core.trail import Trail
from opentrail.trails.registry import StoredTrail

log = logging.getLogger(__name__)

_REFUSED = "InvalidEventSelectorsException"
#: Members of calls about an event data store; the others are about a trail.
_INSIGHT_MEMBERS = ("EventDataStore", "InsightsDestination")
_AGGREGATION_MEMBERS = ("EventDataStore", "MaxEventSize", "ContextKeySelectors")


async def _changed(call: OperationCall, stored: StoredTrail, **members: Any) -> Trail:
    """Changes the selection of a trail from this call on, and returns the trail."""
    trail = replace(stored.trail, **members)
    reconfigured = trail.reconfigured(call.event_id, call.services.journal.head, call.now())
    await call.services.trails.change(stored, reconfigured)
    call.close_span_when_recorded(reconfigured)
    return trail


@operation(
    "PutEventSelectors",
    errors={"EventSelectors": _REFUSED, "AdvancedEventSelectors": _REFUSED},
)
async def put_event_selectors(call: OperationCall) -> Json:
    """Sets event selectors from this call on; basic and advanced ones replace each other."""
    stored = await call.trail_to_change(call.input["TrailName"])
    selection = read_selection(call.input, SelectorOwner.TRAIL)
    trail = await _changed(call, stored, selectors=selection.document())
    _warn_of_unknown_types(trail, selection)
    return _events(trail)


@operation("GetEventSelectors")
async def get_event_selectors(call: OperationCall) -> Json:
    """Returns the event selectors of a trail, basic or advanced."""
    name = call.input["TrailName"]
    stored = await call.services.trails.find(call.account, call.region, name)
    return _events(stored.trail)


def _events(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, **Selection.from_document(trail.selectors).document()}


def _warn_of_unknown_types(trail: Trail, selection: Selection) -> None:
    """Warns about unknown resource types, which may be misspelled or new at AWS."""
    unknown = sorted(selection.resource_types - KNOWN_TYPES)
    if unknown:
        extra = {"trail": trail.arn, "types": unknown}
        log.warning("event selectors name unknown resource types", extra=extra)


@operation(
    "PutInsightSelectors",
    without=_INSIGHT_MEMBERS,
    errors={"InsightSelectors": "InvalidInsightSelectorsException"},
    either=(("TrailName",), _INSIGHT_MEMBERS),
)
async def put_insight_selectors(call: OperationCall) -> Json:
    """Sets the Insights types of a trail from this call on; an empty list turns Insights off."""
    stored = await call.trail_to_change(call.input["TrailName"])
    selectors = insight_selectors(call.input["InsightSelectors"])
    selection = Selection.from_document(stored.trail.selectors)
    check_insights(selectors, selection, stored.trail.arn)
    documents = [selector.to_json() for selector in selectors]
    trail = await _changed(call, stored, insight_selectors=documents)
    return _insights(trail)


@operation(
    "GetInsightSelectors",
    without=("EventDataStore",),
    either=(("TrailName",), ("EventDataStore",)),
)
async def get_insight_selectors(call: OperationCall) -> Json:
    """Returns the Insights types of a trail."""
    name = call.input["TrailName"]
    trail = (await call.services.trails.find(call.account, call.region, name)).trail
    if not trail.insight_selectors:
        raise CloudTrailError(
            "InsightNotEnabledException",
            f"Trail {trail.arn} does not have Insights enabled. Edit the trail settings to "
            "enable Insights, and then try the operation again.",
        )
    return _insights(trail)


def _insights(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, "InsightSelectors": trail.insight_selectors}


@operation(
    "PutEventConfiguration",
    without=(*_AGGREGATION_MEMBERS, "AggregationConfigurations"),
    either=(("TrailName",), _AGGREGATION_MEMBERS),
)
async def put_event_configuration(call: OperationCall) -> Json:
    """Accepts an empty list of aggregation configurations, which every trail has."""
    return _configuration((await call.trail_to_change(call.input.get("TrailName", ""))).trail)


@operation(
    "GetEventConfiguration",
    without=("EventDataStore",),
    either=(("TrailName",), ("EventDataStore",)),
)
async def get_event_configuration(call: OperationCall) -> Json:
    """Returns the event configuration of a trail."""
    name = call.input.get("TrailName", "")
    return _configuration((await call.services.trails.find(call.account, call.region, name)).trail)


def _configuration(trail: Trail) -> Json:
    return {"TrailARN": trail.arn, "AggregationConfigurations": []}


#: Service after `AWS::` → its types.
_TYPES = {
    "AIDevOps": "AgentSpace Association OperatorAppTeam PipelineMetadata Service",
    "AIOps": "InvestigationGroup",
    "AOSS": "Collection",
    "AWSExternalAnthropic": "Workspace",
    "AgentAccessMCP": "Tools",
    "AgentRegistry": "Registry",
    "AppConfig": "Configuration",
    "AppSync": "GraphQLApi",
    "ApplicationSignals": "InstrumentationConfig",
    "B2BI": "Transformer",
    "Backup": "BackupAccessPoint SearchJob",
    "Bedrock": (
        "AdvancedOptimizePromptJob AgentAlias AsyncInvoke AutomatedReasoningPolicy "
        "AutomatedReasoningPolicyVersion Blueprint DataAutomationInvocation "
        "DataAutomationProfile DataAutomationProject FlowAlias FlowExecution Guardrail "
        "InlineAgent KnowledgeBase Model PromptVersion Session Tool"
    ),
    "BedrockAgentCore": (
        "ABTest APIKeyCredentialProvider BatchEvaluate Browser BrowserCustom BrowserProfile "
        "CapacityProvider CodeInterpreter CodeInterpreterCustom Evaluator Gateway Memory "
        "OAuth2CredentialProvider Payments Policy PolicyEngine Recommendation Registry "
        "Runtime RuntimeEndpoint TokenVault WorkloadIdentity WorkloadIdentityDirectory"
    ),
    "BedrockMantle": "Project",
    "BedrockWebSearch": "Tool",
    "Cassandra": "Stream Table",
    "CertificateManager": "AcmeEndpoint",
    "ClinicalTrialsTech": "Codelist Dataset Execution Instance Mapping Schedule Study",
    "CloudFront": "KeyValueStore",
    "CloudOptimization": "Profile Recommendation",
    "CloudTrail": "Channel",
    "CloudWatch": "Dataset IngestionEndpoint Metric",
    "CodeGuruProfiler": "ProfilingGroup",
    "CodeWhisperer": "Customization Profile",
    "Cognito": "IdentityPool",
    "DSQL": "Cluster",
    "DataExchange": "Asset",
    "Deadline": "Fleet Job Queue Worker",
    "DiodeAlerting": "LinkedAlert",
    "DynamoDB": "Stream Table",
    "EC2": "InstanceConnectEndpoint Snapshot",
    "ECS": "ContainerInstance",
    "EKS": "Dashboard",
    "EMRWAL": "Workspace",
    "Events": "Endpoint EventBus EventSource Rule",
    "FSx": "Volume",
    "FinSpace": "Environment",
    "GameLiftStreams": "Application StreamGroup",
    "GeoMaps": "Provider",
    "GeoPlaces": "Provider",
    "GeoRoutes": "Provider",
    "Glue": "Table",
    "GreengrassV2": "ComponentVersion Deployment",
    "GuardDuty": "Detector MalwareScan",
    "HealthAgent": "Domain Integration PatientInsightsJob Session Subscription",
    "HealthLake": "DataTransformationProfile",
    "IoT": "Certificate Thing Tunnel",
    "IoTSiteWise": "Asset Dataset Pipeline TimeSeries Workspace",
    "IoTTwinMaker": "Entity Workspace",
    "KendraRanking": "ExecutionPlan",
    "Kinesis": "Stream StreamConsumer",
    "KinesisFirehose": "DeliveryStream",
    "KinesisVideo": "SignalingChannel Stream",
    "Lambda": "Function MicrovmImage",
    "Lex": "Bot BotAlias",
    "Logs": "LogGroupAuthorization ScheduledQuery",
    "MWAA": "Environment",
    "MachineLearning": "MlModel",
    "ManagedBlockchain": "Network Node",
    "ManagedBlockchainQuery": "QueryAPI",
    "MedicalImaging": "Datastore Imageset",
    "NeptuneGraph": "Graph",
    "NetworkFlowMonitor": "Monitor Scope",
    "NovaAct": "WorkflowDefinition WorkflowRun",
    "One": "UKey User",
    "PCAConnectorAD": "Connector",
    "PCAConnectorSCEP": "Connector",
    "PaymentCryptography": "Alias Key",
    "Pinpoint": "App",
    "QApps": "QApp QAppSession",
    "QBusiness": "Application DataSource Index Integration WebExperience",
    "QDeveloper": "Integration",
    "QuickSight": (
        "App Automation AutomationJob Extension ExtensionAccess Flow FlowSession Page Task"
    ),
    "Quicksight": "ActionConnector",
    "RDS": "DBCluster",
    "RUM": "AppMonitor",
    "Redshift": "Cluster",
    "ResourceExplorer2": "ManagedView View",
    "S3": "AccessPoint Object",
    "S3Express": "AccessPoint Object",
    "S3ObjectLambda": "AccessPoint",
    "S3Outposts": "Object",
    "S3Tables": "Table TableBucket",
    "S3Vectors": "Index VectorBucket",
    "SCN": (
        "BusinessRule DataLakeException ExceptionInvestigation ExceptionRule Instance Metric "
        "MetricEvaluation Outcome OutcomeTemplate"
    ),
    "SDB": "Domain",
    "SES": "ConfigurationSet EmailIdentity Template",
    "SMSVoice": ("CarrierLookup ConfigurationSet Message NotifyConfiguration OriginationIdentity"),
    "SNS": "PlatformEndpoint Topic",
    "SQS": "Queue",
    "SSM": "ExecutionPreview ManagedNode",
    "SSMMessages": "ControlChannel",
    "SWF": "Domain",
    "SageMaker": (
        "Endpoint ExperimentTrialComponent FeatureGroup Hub Job MlflowApp "
        "MlflowTrackingServer TrainingSession"
    ),
    "ServiceDiscovery": "Namespace Service",
    "Signer": "SigningJob SigningProfile",
    "SitewiseAssistant": "Conversation",
    "SocialMessaging": "PhoneNumberId WabaId",
    "StepFunctions": "Activity StateMachine",
    "SupportAccess": "Tenant TrustingAccount TrustingRole",
    "ThinClient": "Device Environment",
    "Timestream": "Database RegionalEndpoint Table",
    "Transform": "AgentInstance Profile",
    "TransformCustom": "Campaign Conversation KnowledgeItem Package",
    "UXC": "AccountCustomization",
    "VerifiedPermissions": "PolicyStore",
    "WellArchitected": "AgentRecommendation",
    "XRay": "Trace",
}

#: Types such as `AWS::S3::Object`. AWS adds types every month, so others are accepted as well.
KNOWN_TYPES = frozenset(
    f"AWS::{service}::{name}" for service, names in _TYPES.items() for name in names.split()
)
