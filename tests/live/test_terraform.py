"""The calls of Terraform's aws_cloudtrail, with boto3: after each apply a read shows no difference.

Written from the provider's sequences (create, read, update, import, destroy); the cases are those
of its acceptance tests.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from tests.live.processes import Opentrail, opentrail_server

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

ACCOUNT = "123456789012"
GROUP = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/logs"
Config = dict[str, Any]
#: The provider's defaults of attributes.
DEFAULTS: Config = {
    "s3_key_prefix": "",
    "sns_topic_name": "",
    "cloud_watch_logs_group_arn": "",
    "cloud_watch_logs_role_arn": "",
    "kms_key_id": "",
    "enable_logging": True,
    "include_global_service_events": True,
    "is_multi_region_trail": False,
    "enable_log_file_validation": False,
    "is_organization_trail": False,
    "tags": {},
    "event_selector": [],
    "advanced_event_selector": [],
    "insight_selector": [],
}
_MEMBERS = {
    "s3_bucket_name": "S3BucketName",
    "s3_key_prefix": "S3KeyPrefix",
    "sns_topic_name": "SnsTopicName",
    "cloud_watch_logs_group_arn": "CloudWatchLogsLogGroupArn",
    "cloud_watch_logs_role_arn": "CloudWatchLogsRoleArn",
    "kms_key_id": "KmsKeyId",
    "include_global_service_events": "IncludeGlobalServiceEvents",
    "is_multi_region_trail": "IsMultiRegionTrail",
    "enable_log_file_validation": "EnableLogFileValidation",
    "is_organization_trail": "IsOrganizationTrail",
}
_LOGS = ("cloud_watch_logs_group_arn", "cloud_watch_logs_role_arn")
_DEFAULT_SELECTOR = [{"ReadWriteType": "All", "IncludeManagementEvents": True, "DataResources": []}]


class Provider:
    """Acts like the provider, and keeps the same state."""

    def __init__(self, server: Opentrail, name: str) -> None:
        self._cloudtrail = server.boto("cloudtrail")
        self.name = name
        self.arn = f"arn:aws:cloudtrail:us-east-1:{ACCOUNT}:trail/{name}"

    def create(self, config: Config) -> None:
        """Creates the trail; logging by ARN, then selectors."""
        wanted = {**DEFAULTS, **config}
        asked: dict[str, Any] = {"Name": self.name}
        for attribute, member in _MEMBERS.items():
            if wanted[attribute] not in ("", None):
                asked[member] = wanted[attribute]
        if wanted["tags"]:
            asked["TagsList"] = _tags(wanted["tags"])
        made = self._cloudtrail.create_trail(**asked)
        assert made["TrailARN"] == self.arn
        if wanted["enable_logging"]:
            self._cloudtrail.start_logging(Name=self.arn)
        self._select(wanted)
        if wanted["insight_selector"]:
            self._set_insights(wanted)

    def _set_insights(self, wanted: Config) -> None:
        self._cloudtrail.put_insight_selectors(
            TrailName=self.arn, InsightSelectors=wanted["insight_selector"]
        )

    def _select(self, wanted: Config) -> None:
        if wanted["event_selector"]:
            self._cloudtrail.put_event_selectors(
                TrailName=self.arn, EventSelectors=wanted["event_selector"]
            )
        if wanted["advanced_event_selector"]:
            self._cloudtrail.put_event_selectors(
                TrailName=self.arn, AdvancedEventSelectors=wanted["advanced_event_selector"]
            )

    def update(self, before: Config, config: Config) -> None:
        """Calls UpdateTrail with the changes, then logging, tags and selectors."""
        wanted, old = {**DEFAULTS, **config}, {**DEFAULTS, **before}
        changed = {name for name in wanted if wanted[name] != old[name]}
        members = {_MEMBERS[name]: wanted[name] for name in changed if name in _MEMBERS}
        if "is_multi_region_trail" in changed:
            name = "include_global_service_events"  # leaving all Regions would switch it off
            members[_MEMBERS[name]] = wanted[name]
        if changed & set(_LOGS):
            members |= {_MEMBERS[name]: wanted[name] for name in _LOGS}
        if members:
            self._cloudtrail.update_trail(Name=self.arn, **members)
        if "enable_logging" in changed:
            switch = "start_logging" if wanted["enable_logging"] else "stop_logging"
            getattr(self._cloudtrail, switch)(Name=self.arn)
        gone = set(old["tags"]) - set(wanted["tags"])
        if gone:
            keys = [{"Key": key} for key in sorted(gone)]
            self._cloudtrail.remove_tags(ResourceId=self.arn, TagsList=keys)
        if wanted["tags"] != old["tags"] and wanted["tags"]:
            self._cloudtrail.add_tags(ResourceId=self.arn, TagsList=_tags(wanted["tags"]))
        if changed & {"event_selector", "advanced_event_selector"}:
            if wanted["event_selector"] or wanted["advanced_event_selector"]:
                self._select(wanted)
            else:
                self._cloudtrail.put_event_selectors(
                    TrailName=self.arn, EventSelectors=_DEFAULT_SELECTOR
                )
        if "insight_selector" in changed:
            self._set_insights(wanted)

    def read(self) -> Config | None:
        """Returns the attributes as the provider reads them, by ARN alone, like an import."""
        found = self._cloudtrail.describe_trails(trailNameList=[self.arn])["trailList"]
        if not found:
            return None
        (trail,) = found
        assert trail["TrailARN"] == self.arn
        assert trail["HomeRegion"] == "us-east-1"
        state: Config = {attribute: trail.get(member, "") for attribute, member in _MEMBERS.items()}
        state["enable_log_file_validation"] = trail["LogFileValidationEnabled"]
        status = self._cloudtrail.get_trail_status(Name=self.arn)
        state["enable_logging"] = status["IsLogging"]
        (listed,) = self._cloudtrail.list_tags(ResourceIdList=[self.arn])["ResourceTagList"]
        state["tags"] = {tag["Key"]: tag["Value"] for tag in listed["TagsList"]}
        state["event_selector"] = state["advanced_event_selector"] = []
        if trail["HasCustomEventSelectors"]:
            selectors = self._cloudtrail.get_event_selectors(TrailName=self.arn)
            state["event_selector"] = selectors.get("EventSelectors", [])
            state["advanced_event_selector"] = selectors.get("AdvancedEventSelectors", [])
        state["insight_selector"] = self._insights() if trail["HasInsightSelectors"] else []
        return state

    def _insights(self) -> list[dict[str, Any]]:
        """Returns the Insights types; the provider knows no other selectors."""
        found = self._cloudtrail.get_insight_selectors(TrailName=self.arn)["InsightSelectors"]
        return [{"InsightType": selector["InsightType"]} for selector in found]

    def destroy(self) -> None:
        """Deletes the trail; a missing trail is a success."""
        try:
            self._cloudtrail.delete_trail(Name=self.arn)
        except self._cloudtrail.exceptions.TrailNotFoundException:
            return


def _tags(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    with _sandbox(tmp_path_factory.mktemp("terraform") / "data") as running:
        yield running


@contextmanager
def _sandbox(data: Path, *flags: str) -> Iterator[Opentrail]:
    """Runs a sandbox with the resources in the configurations."""
    with opentrail_server(data, *flags, command="sandbox") as running:
        for bucket in ("one", "two"):
            running.boto("s3").create_bucket(Bucket=bucket)
        for group in ("first", "second"):
            running.boto("logs").create_log_group(logGroupName=group)
        running.boto("sns").create_topic(Name="topic")
        running.boto("organizations").create_organization(FeatureSet="ALL")
        yield running


@pytest.fixture(scope="module")
def kms_key(server: Opentrail) -> str:
    key: str = server.boto("kms").create_key()["KeyMetadata"]["Arn"]
    return key


def basic(**selector: Any) -> list[dict[str, Any]]:
    whole = {
        "ReadWriteType": "All",
        "IncludeManagementEvents": True,
        "DataResources": [],
        "ExcludeManagementEventSources": [],
    }
    return [{**whole, **selector}]


def objects(*values: str) -> list[dict[str, Any]]:
    return [{"Type": "AWS::S3::Object", "Values": list(values)}]


ADVANCED = [
    {
        "Name": "s3Custom",
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "eventName", "Equals": ["DeleteObject"]},
            {"Field": "readOnly", "Equals": ["false"]},
            {
                "Field": "resources.ARN",
                "Equals": ["arn:aws:s3:::one/foobar", "arn:aws:s3:::one/baz"],
            },
            {"Field": "resources.type", "Equals": ["AWS::S3::Object"]},
        ],
    },
    {
        "Name": "lambdaLogAllEvents",
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "resources.type", "Equals": ["AWS::Lambda::Function"]},
        ],
    },
    {
        "Name": "dynamoDbReadOnlyEvents",
        "FieldSelectors": [
            {"Field": "eventCategory", "Equals": ["Data"]},
            {"Field": "readOnly", "Equals": ["true"]},
            {"Field": "resources.type", "Equals": ["AWS::DynamoDB::Table"]},
        ],
    },
    {
        "Name": "managementEventsSelector",
        "FieldSelectors": [{"Field": "eventCategory", "Equals": ["Management"]}],
    },
]
_RATE, _ERRORS = {"InsightType": "ApiCallRateInsight"}, {"InsightType": "ApiErrorRateInsight"}
#: Configurations, applied one after the other.
CASES: dict[str, list[Config]] = {
    "basic": [{}, {"s3_key_prefix": "prefix", "include_global_service_events": False}],
    "cloud watch": [
        {_LOGS[0]: f"{GROUP}first:*", _LOGS[1]: ROLE},
        {_LOGS[0]: f"{GROUP}second:*", _LOGS[1]: ROLE},
        {},
    ],
    "insight selector": [
        {"insight_selector": [_RATE]},
        {"insight_selector": [_RATE, _ERRORS]},
        {},
    ],
    "enable logging": [{}, {"enable_logging": False}, {"enable_logging": True}],
    "multi region": [{}, {"is_multi_region_trail": True}, {}],
    "log validation": [{"enable_log_file_validation": True}, {}],
    "organization": [
        {"is_organization_trail": True},
        {},
        {"is_organization_trail": True, "enable_log_file_validation": True},
    ],
    "tags": [
        {"tags": {"Yak": "milk", "Fox": "tail"}},
        {"tags": {"Yak": "milk", "Fox": "tail", "Emu": "toes"}},
        {"tags": {"Fox": "red"}},
        {},
    ],
    "topic": [{"sns_topic_name": "topic"}, {}],
    "bucket": [{}, {"s3_bucket_name": "two"}],
    "prefix": [{"s3_key_prefix": "a/b"}, {}],
    "event selector": [
        {"event_selector": basic(DataResources=objects("arn:aws:s3:::one/isReadOnly/"))},
        {
            "event_selector": [
                *basic(
                    ReadWriteType="ReadOnly",
                    DataResources=objects("arn:aws:s3:::one/a/", "arn:aws:s3:::one/b/"),
                ),
                *basic(
                    ReadWriteType="WriteOnly",
                    IncludeManagementEvents=False,
                    DataResources=[
                        *objects("arn:aws:s3:::two/"),
                        {"Type": "AWS::Lambda::Function", "Values": ["arn:aws:lambda"]},
                    ],
                ),
            ]
        },
        {},
    ],
    "event selector dynamodb": [
        {
            "event_selector": basic(
                DataResources=[{"Type": "AWS::DynamoDB::Table", "Values": ["arn:aws:dynamodb"]}]
            )
        }
    ],
    "event selector exclude": [
        {"event_selector": basic(ExcludeManagementEventSources=["kms.amazonaws.com"])},
        {
            "event_selector": basic(
                ExcludeManagementEventSources=["kms.amazonaws.com", "rdsdata.amazonaws.com"]
            )
        },
        {},
    ],
    "advanced event selector": [{"advanced_event_selector": ADVANCED}, {}],
    "from basic to advanced": [
        {"event_selector": basic(ReadWriteType="WriteOnly")},
        {"advanced_event_selector": ADVANCED[:1]},
        {"event_selector": basic(ReadWriteType="ReadOnly")},
    ],
}


def expected(config: Config) -> Config:
    return {**DEFAULTS, "s3_bucket_name": "one", **config}


@pytest.mark.parametrize("case", CASES)
def test_after_each_apply_a_read_shows_no_difference(server: Opentrail, case: str) -> None:
    _apply_all(server, case)


def test_verified_signatures_leave_no_difference(tmp_path: Path) -> None:
    with _sandbox(tmp_path / "data", "--auth", "enforced") as server:
        for case in ("tags", "event selector", "insight selector"):
            _apply_all(server, case)


def _apply_all(server: Opentrail, case: str) -> None:
    """Applies the configurations of a case, and destroys the trail."""
    provider = Provider(server, f"tf-{case.replace(' ', '-')}")
    before: Config | None = None
    try:
        for config in CASES[case]:
            config = {"s3_bucket_name": "one", **config}
            if before is None:
                provider.create(copy.deepcopy(config))
            else:
                provider.update(before, copy.deepcopy(config))
            assert provider.read() == expected(config)
            assert provider.read() == expected(config)
            before = config
    finally:
        provider.destroy()
    assert provider.read() is None
    provider.destroy()


def test_a_key_is_stored_by_its_arn(server: Opentrail, kms_key: str) -> None:
    provider = Provider(server, "tf-kms")
    config = {"s3_bucket_name": "one", "kms_key_id": kms_key}
    try:
        provider.create(config)
        assert provider.read() == expected(config)
        provider.update(config, {"s3_bucket_name": "one"})
        assert provider.read() == expected({})
    finally:
        provider.destroy()


def test_a_deleted_trail_is_read_as_missing(server: Opentrail) -> None:
    provider = Provider(server, "tf-disappears")
    provider.create({"s3_bucket_name": "one"})
    server.boto("cloudtrail").delete_trail(Name="tf-disappears")
    assert provider.read() is None
    provider.destroy()


def test_unsupported_operations_are_refused_by_name(server: Opentrail) -> None:
    client = server.boto("cloudtrail")
    with pytest.raises(botocore.exceptions.ClientError, match="EventDataStore"):
        client.put_insight_selectors(
            EventDataStore="tf-eds", InsightSelectors=[{"InsightType": "ApiCallRateInsight"}]
        )


def test_the_provider_ignores_the_error_for_missing_insights(server: Opentrail) -> None:
    provider = Provider(server, "tf-insights")
    client = server.boto("cloudtrail")
    provider.create({"s3_bucket_name": "one", "insight_selector": [_RATE]})
    try:
        client.put_insight_selectors(TrailName=provider.arn, InsightSelectors=[])
        with pytest.raises(client.exceptions.InsightNotEnabledException):
            client.get_insight_selectors(TrailName=provider.arn)
        assert (provider.read() or {})["insight_selector"] == []
    finally:
        provider.destroy()
