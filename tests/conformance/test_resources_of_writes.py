"""Every writing call names its resource, where AWS's authorization data has one for it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from opentrail.core.attributes import attributes_of
from opentrail.permissions.authorization import access_level, types_of
from opentrail.permissions.event_actions import actions_of
from tests.capture.test_way_of_a_call import entries_of_calls
from tests.conformance.expect import EXCEPTED, source_of
from tests.conformance.generate import (
    Case,
    parameters,
    protocols_of,
    region_of,
    service_model,
    services,
)
from tests.fakes import run

pytestmark = [pytest.mark.slow, pytest.mark.campaign]

_WRITES = ("Write", "Permissions management", "Tagging")


#: Services that opentrail itself implements.
OWN = ("cloudtrail", "cloudtrail-data")


def writes() -> Iterator[Case]:
    """Yields a call, with all members, of each operation that writes to a resource."""
    for index, service in enumerate(services()):
        model = service_model(service)
        if service in OWN:
            continue
        for number, name in enumerate(sorted(model.operation_names)):
            if (service, name) in EXCEPTED or not takes_a_resource(service, name):
                continue
            protocol = protocols_of(service)[0]
            given = parameters(model.operation_model(name), protocol, "full")
            number += index * 10_000
            yield Case(service, protocol, name, "full", region_of(service), number, given)


def with_arns(value: Any, service: str, member: str = "") -> Any:
    """Returns a record with valid ARNs and EC2 ids in place of odd strings in such members."""
    if isinstance(value, dict):
        # EC2 has the items of lists as {"tag": …, "content": …}.
        names = {name: member if name == "content" else name for name in value}
        return {name: with_arns(each, service, names[name]) for name, each in value.items()}
    if isinstance(value, list):
        return [with_arns(each, service, member) for each in value]
    if isinstance(value, str) and member.lower().endswith(("arn", "arns", "arnlist")):
        return f"arn:aws:{service}:us-east-1:123456789012:thing/name"
    return "vpc-1" if member in ("resourceId", "ResourceId") and service == "ec2" else value


def takes_a_resource(service: str, operation: str) -> bool:
    """Returns whether the data has a resource for a writing operation."""
    source = f"{source_of(service)}.amazonaws.com"
    event = {"eventSource": source, "eventName": operation, "requestParameters": {}}
    actions = actions_of(event)
    return any(access_level(each) in _WRITES and types_of(each) for each in actions)


#: Reason for not naming the written resource → operations.
UNNAMED = {
    "the resource is the only one of its account": (
        "config.DeleteAggregationAuthorization iam.ChangePassword "
        "iotwireless.DisassociateAwsAccountFromPartnerAccount "
        "neptunedata.DeletePropertygraphStatistics neptunedata.DeleteSparqlStatistics "
        "neptunedata.ExecuteFastReset neptunedata.ManagePropertygraphStatistics "
        "neptunedata.ManageSparqlStatistics quicksight.DeleteAccountCustomization "
        "quicksight.UpdateSelfUpgrade s3control.DeleteAccessGrantsInstance "
        "s3control.DeleteAccessGrantsInstanceResourcePolicy s3control.DeletePublicAccessBlock "
        "s3control.DissociateAccessGrantsIdentityCenter "
        "s3control.PutAccessGrantsInstanceResourcePolicy s3control.PutPublicAccessBlock "
        "securityhub.BatchEnableStandards securityhub.BatchUpdateFindings "
        "securityhub.CreateMembers securityhub.DeclineInvitations securityhub.DeleteInvitations "
        "securityhub.DeleteMembers securityhub.DisableOrganizationAdminAccount "
        "securityhub.DisableSecurityHub securityhub.DisassociateFromAdministratorAccount "
        "securityhub.DisassociateFromMasterAccount securityhub.DisassociateMembers "
        "securityhub.EnableOrganizationAdminAccount securityhub.EnableSecurityHub "
        "securityhub.InviteMembers securityhub.UpdateFindings "
        "securityhub.UpdateOrganizationConfiguration securityhub.UpdateSecurityHubConfiguration "
        "securitylake.CreateAwsLogSource securitylake.CreateDataLakeOrganizationConfiguration "
        "securitylake.DeleteAwsLogSource securitylake.DeleteDataLake "
        "securitylake.DeleteDataLakeOrganizationConfiguration"
    ),
    "a token or a handle stands for it": (
        "cloudformation.RecordHandlerProgress iot.ConfirmTopicRuleDestination "
        "s3.WriteGetObjectResponse sqs.CancelMessageMoveTask swf.RecordActivityTaskHeartbeat "
        "swf.RespondActivityTaskCanceled swf.RespondActivityTaskCompleted "
        "swf.RespondActivityTaskFailed swf.RespondDecisionTaskCompleted"
    ),
    "the host names it": (
        "cloudsearchdomain.UploadDocuments mediastore-data.DeleteObject mediastore-data.PutObject"
    ),
    "the request has content only": (
        "b2bi.CreateStarterMappingTemplate b2bi.GenerateMapping b2bi.TestConversion "
        "b2bi.TestMapping b2bi.TestParsing payment-cryptography-data.TranslateKeyMaterial"
    ),
    "no name of a member says that it has one": (
        "auditmanager.UpdateAssessmentFrameworkShare "
        "codecommit.OverridePullRequestApprovalRules codecommit.UpdatePullRequestApprovalState "
        "codepipeline.UpdateActionType ec2.CreatePublicIpv4Pool "
        "frauddetector.DeleteExternalModel quicksight.DeleteUserByPrincipalId "
        "redshift.BatchModifyClusterSnapshots s3control.SubmitMultiRegionAccessPointRoutes "
        "sesv2.UpdateReputationEntityCustomerManagedStatus"
    ),
}


def test_every_call_that_writes_names_its_resource() -> None:
    calls = list(writes())
    records = [json.loads(entry.record) for entry in run(entries_of_calls(calls))]
    records = [with_arns(each, each["eventSource"].partition(".")[0]) for each in records]
    assert len(records) == len(calls) > 8_000
    unnamed = {
        f"{case.service}.{case.operation}"
        for case, record in zip(calls, records, strict=True)
        if not attributes_of(record).resources
    }
    assert unnamed == {name for names in UNNAMED.values() for name in names.split()}
