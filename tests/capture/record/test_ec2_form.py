"""EC2's own two forms, against real records."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.model import Shape
from hypothesis import given
from hypothesis import strategies as st

from opentrail.capture.record.ec2_form import ec2_answer, ec2_parameters, is_earlier
from opentrail.capture.record_rules import rules
from opentrail.capture.redaction import REMOVED_MARK
from opentrail.wire.message import Response
from opentrail.wire.routing import Route
from opentrail.wire.service_models import Service
from opentrail.wire.sigv4 import read_credential
from tests.factories import a_query_request, a_request, an_sdk_request, catalog, router

VERSION = "2016-11-15"
XMLNS = f"http://ec2.amazonaws.com/doc/{VERSION}/"


def ec2() -> Service:
    return catalog().services["ec2"]


def shown(operation: str, **parameters: Any) -> dict[str, Any]:
    """Returns the parameters of a request by botocore."""
    request = an_sdk_request("ec2", operation, parameters)
    return ec2_parameters(router().identify(request, read_credential(request)), request, {})


def raw(operation: str, fields: Mapping[str, str]) -> dict[str, Any]:
    """Returns the parameters of a form."""
    request = a_query_request("ec2", operation, VERSION, fields)
    return ec2_parameters(Route(ec2(), operation, "ec2"), request, {})


def answered(operation: str, inner: str) -> dict[str, Any] | None:
    """Returns the elements of an answer; `inner` is the content of its root."""
    body = f'<{operation}Response xmlns="{XMLNS}">{inner}</{operation}Response>'
    return ec2_answer(Route(ec2(), operation, "ec2"), Response(200, {}, body.encode()))


def tags(kind: str, **values: str) -> list[dict[str, Any]]:
    listed = [{"Key": key, "Value": value} for key, value in values.items()]
    return [{"ResourceType": kind, "Tags": listed}]


# Earlier operations: requests


def test_run_instances_has_aws_form_of_its_image() -> None:
    """Stratus Red Team's detonation log of 2024."""
    assert shown(
        "RunInstances",
        ImageId="ami-aCBbfd13bdb1d1E4b",
        InstanceType="p2.xlarge",
        MinCount=1,
        MaxCount=10,
        SubnetId="subnet-0e540f0c7ffb48ae9",
        ClientToken="5dd59182-3917-421c-9b2c-7c92954b66ee",
    ) == {
        "blockDeviceMapping": {},
        "clientToken": "5dd59182-3917-421c-9b2c-7c92954b66ee",
        "disableApiStop": False,
        "disableApiTermination": False,
        "instanceType": "p2.xlarge",
        "instancesSet": {
            "items": [{"imageId": "ami-aCBbfd13bdb1d1E4b", "maxCount": 10, "minCount": 1}]
        },
        "monitoring": {"enabled": False},
        "subnetId": "subnet-0e540f0c7ffb48ae9",
    }


def test_run_instances_spreads_placement_and_drops_user_data() -> None:
    """Cloud Custodian's record of 2016, and an autoscaling record of 2019 for `userData`."""
    found = shown(
        "RunInstances",
        ImageId="ami-2d39803a",
        MinCount=1,
        MaxCount=1,
        KeyName="custodian.pem",
        SecurityGroupIds=["sg-6c7fa917"],
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 8, "DeleteOnTermination": True}},
            {"DeviceName": "/dev/sdc", "NoDevice": ""},
        ],
        Placement={"Tenancy": "default", "AvailabilityZone": "us-east-1b"},
        UserData="IyEvYmluL3NoCmVjaG8gaHVudGVyMg==",
        Monitoring={"Enabled": True},
    )
    assert found["instancesSet"] == {
        "items": [
            {"imageId": "ami-2d39803a", "minCount": 1, "maxCount": 1, "keyName": "custodian.pem"}
        ]
    }
    assert found["groupSet"] == {"items": [{"groupId": "sg-6c7fa917"}]}
    assert found["blockDeviceMapping"] == {
        "items": [
            {"deviceName": "/dev/sda1", "ebs": {"volumeSize": 8, "deleteOnTermination": True}},
            {"deviceName": "/dev/sdc", "noDevice": {}},
        ]
    }
    assert (found["tenancy"], found["availabilityZone"]) == ("default", "us-east-1b")
    assert "placement" not in found
    assert found["userData"] == REMOVED_MARK
    assert found["monitoring"] == {"enabled": True}


def test_describe_instances_shows_empty_sets_and_filters() -> None:
    """Invictus, 10 July 2023."""
    assert shown("DescribeInstances", MaxResults=1000) == {
        "maxResults": 1000,
        "instancesSet": {},
        "filterSet": {},
    }
    assert shown(
        "DescribeInstances",
        InstanceIds=["i-0dbc91f429e48eeed"],
        Filters=[{"Name": "instance-state-name", "Values": ["running", "pending"]}],
    ) == {
        "instancesSet": {"items": [{"instanceId": "i-0dbc91f429e48eeed"}]},
        "filterSet": {
            "items": [
                {
                    "name": "instance-state-name",
                    "valueSet": {"items": [{"value": "running"}, {"value": "pending"}]},
                }
            ]
        },
    }


@pytest.mark.parametrize(
    ("operation", "parameters", "expected"),
    [
        ("DescribeAvailabilityZones", {}, {"availabilityZoneSet": {}, "availabilityZoneIdSet": {}}),
        ("DescribeTags", {"MaxResults": 10000}, {"filterSet": {}, "maxResults": 10000}),
        (
            "DescribeAddresses",
            {"AllocationIds": ["eipalloc-1"]},
            {
                "publicIpsSet": {},
                "filterSet": {},
                "allocationIdsSet": {"items": [{"allocationId": "eipalloc-1"}]},
            },
        ),
        (
            "DescribeSecurityGroups",
            {"GroupIds": ["sg-04cfb7a4712d75b00"]},
            {
                "securityGroupSet": {},
                "securityGroupIdSet": {"items": [{"groupId": "sg-04cfb7a4712d75b00"}]},
                "filterSet": {},
            },
        ),
        (
            "DescribeSnapshots",
            {"RestorableByUserIds": ["self"]},
            {
                "snapshotSet": {},
                "ownersSet": {},
                "sharedUsersSet": {"items": [{"user": "self"}]},
                "filterSet": {},
            },
        ),
        (
            "DescribeVpcClassicLink",
            {"VpcIds": ["vpc-06fe1a64761a0f720"]},
            {"vpcSet": {"item": [{"vpcId": "vpc-06fe1a64761a0f720"}]}, "filterSet": {}},
        ),
        (
            "DescribeVpcAttribute",
            {"VpcId": "vpc-1", "Attribute": "enableDnsSupport"},
            {"vpcId": "vpc-1"},
        ),
        (
            "DescribeInstanceAttribute",
            {"InstanceId": "i-1", "Attribute": "instanceInitiatedShutdownBehavior"},
            {"instanceId": "i-1", "attribute": "instanceInitiatedShutdownBehavior"},
        ),
        (
            "TerminateInstances",
            {"InstanceIds": ["i-1a2b3c4d"]},
            {"instancesSet": {"items": [{"instanceId": "i-1a2b3c4d"}]}},
        ),
        (
            "StopInstances",
            {"InstanceIds": ["i-ebeaf9e2"]},
            {"instancesSet": {"items": [{"instanceId": "i-ebeaf9e2"}]}, "force": False},
        ),
        (
            "CreateVolume",
            {"Size": 10, "AvailabilityZone": "us-east-1a", "Encrypted": True},
            {"size": "10", "zone": "us-east-1a", "encrypted": True},
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_earlier_operations_have_hand_made_names(
    operation: str, parameters: dict[str, Any], expected: dict[str, Any]
) -> None:
    assert shown(operation, **parameters) == expected


def test_ip_permissions_show_every_kind_of_source() -> None:
    """Invictus, 10 July 2023."""
    permission = {
        "IpProtocol": "tcp",
        "FromPort": 443,
        "ToPort": 443,
        "IpRanges": [{"CidrIp": "0.0.0.0/0", "Description": "TLS from Internet"}],
    }
    found = shown("AuthorizeSecurityGroupIngress", GroupId="sg-1", IpPermissions=[permission])
    assert found == {
        "groupId": "sg-1",
        "ipPermissions": {
            "items": [
                {
                    "ipProtocol": "tcp",
                    "fromPort": 443,
                    "toPort": 443,
                    "groups": {},
                    "ipRanges": {
                        "items": [{"cidrIp": "0.0.0.0/0", "description": "TLS from Internet"}]
                    },
                    "ipv6Ranges": {},
                    "prefixListIds": {},
                }
            ]
        },
    }
    flat = shown("AuthorizeSecurityGroupIngress", GroupId="sg-1", FromPort=22, CidrIp="0.0.0.0/0")
    assert flat == {"groupId": "sg-1", "ipPermissions": {}, "fromPort": 22, "cidrIp": "0.0.0.0/0"}


def test_tags_are_a_set_except_in_specifications() -> None:
    """Invictus, 10 July 2023."""
    assert shown(
        "CreateTags",
        Resources=["ami-0aa1d83d0b0985c86"],
        Tags=[{"Key": "StratusRedTeam", "Value": "true"}],
    ) == {
        "resourcesSet": {"items": [{"resourceId": "ami-0aa1d83d0b0985c86"}]},
        "tagSet": {"items": [{"key": "StratusRedTeam", "value": "true"}]},
    }
    assert shown(
        "CreateInternetGateway", TagSpecifications=tags("internet-gateway", StratusRedTeam="true")
    ) == {
        "tagSpecificationSet": {
            "items": [
                {
                    "resourceType": "internet-gateway",
                    "tags": [{"key": "StratusRedTeam", "value": "true"}],
                }
            ]
        }
    }


def test_shared_images_and_snapshots_record_the_attribute() -> None:
    """Invictus, 10 July 2023."""
    assert shown(
        "ModifyImageAttribute",
        ImageId="ami-1",
        Attribute="launchPermission",
        LaunchPermission={"Add": [{"UserId": "012345678901"}]},
    ) == {
        "imageId": "ami-1",
        "launchPermission": {"add": {"items": [{"userId": "012345678901"}]}},
        "attributeType": "launchPermission",
    }
    found = shown(
        "ModifySnapshotAttribute", SnapshotId="snap-1", Attribute="createVolumePermission"
    )
    assert found == {"snapshotId": "snap-1", "attributeType": "CREATE_VOLUME_PERMISSION"}


def test_network_acl_entries_keep_empty_ranges() -> None:
    """Panther's record: a rule for all protocols."""
    assert shown(
        "CreateNetworkAclEntry",
        NetworkAclId="acl-1",
        RuleNumber=500,
        Protocol="-1",
        RuleAction="allow",
        Egress=True,
        CidrBlock="0.0.0.0/0",
    ) == {
        "networkAclId": "acl-1",
        "ruleNumber": 500,
        "egress": True,
        "ruleAction": "allow",
        "icmpTypeCode": {},
        "portRange": {},
        "aclProtocol": "-1",
        "cidrBlock": "0.0.0.0/0",
    }


def test_a_call_without_parameters_has_none() -> None:
    assert shown("CreateInternetGateway") == {}


# Later operations: requests


def test_create_nat_gateway_is_xml_turned_to_json() -> None:
    """Invictus, 10 July 2023: the tag's text "true" became a boolean."""
    specification = tags("natgateway", StratusRedTeam="true", Name="vpc-us-east-1a")
    found = shown(
        "CreateNatGateway",
        ConnectivityType="public",
        AllocationId="eipalloc-08a083beb7e83dbc0",
        SubnetId="subnet-01ed430875cff578d",
        TagSpecifications=specification,
    )
    assert found == {
        "CreateNatGatewayRequest": {
            "ConnectivityType": "public",
            "AllocationId": "eipalloc-08a083beb7e83dbc0",
            "SubnetId": "subnet-01ed430875cff578d",
            "TagSpecification": {
                "ResourceType": "natgateway",
                "tag": 1,
                "Tag": [
                    {"Value": True, "tag": 1, "Key": "StratusRedTeam"},
                    {"Value": "vpc-us-east-1a", "tag": 2, "Key": "Name"},
                ],
            },
        }
    }


def test_create_launch_template_removes_its_user_data() -> None:
    """A Terraform record of 2022."""
    data = {"UserData": "aHVudGVyMg==", "SecurityGroupIds": ["sg-0743bcbd08cadba1d", "sg-6daf421e"]}
    found = shown("CreateLaunchTemplate", LaunchTemplateName="worker", LaunchTemplateData=data)
    assert found == {
        "CreateLaunchTemplateRequest": {
            "LaunchTemplateName": "worker",
            "LaunchTemplateData": {
                "UserData": "<sensitiveDataRemoved>",
                "SecurityGroupId": [
                    {"tag": 1, "content": "sg-0743bcbd08cadba1d"},
                    {"tag": 2, "content": "sg-6daf421e"},
                ],
            },
        }
    }


@pytest.mark.parametrize(
    ("operation", "parameters", "expected"),
    [
        (
            "DescribeFlowLogs",
            {"Filter": [{"Name": "resource-id", "Values": ["vpc-40349626"]}], "MaxResults": 1000},
            {
                "Filter": {
                    "Value": {"tag": 1, "content": "vpc-40349626"},
                    "tag": 1,
                    "Name": "resource-id",
                },
                "MaxResults": 1000,
            },
        ),
        (
            "DescribeFlowLogs",
            {"FlowLogIds": ["fl-064ed3a785e4a37ef"]},
            {"FlowLogId": {"tag": 1, "content": "fl-064ed3a785e4a37ef"}},
        ),
        (
            "DescribeVpcClassicLinkDnsSupport",
            {"VpcIds": ["vpc-06fe1a64761a0f720"]},
            {"VpcIds": {"tag": 1, "content": "vpc-06fe1a64761a0f720"}},
        ),
        ("DescribeEgressOnlyInternetGateways", {}, ""),
        ("DescribeInstanceTypes", {"MaxResults": 100}, {"MaxResults": 100}),
    ],
)
def test_later_operations_are_recorded_under_their_own_name(
    operation: str, parameters: dict[str, Any], expected: Any
) -> None:
    assert shown(operation, **parameters) == {f"{operation}Request": expected}


def test_one_outermost_name_is_cut_short() -> None:
    """Cloud Custodian's record of 2022."""
    found = shown("DeleteTransitGatewayVpcAttachment", TransitGatewayAttachmentId="tgw-attach-1")
    assert found == {"DelTGwVpcAttachReq": {"TransitGatewayAttachmentId": "tgw-attach-1"}}


# Answers


def test_earlier_operations_answer_with_items_and_return() -> None:
    """Invictus, 10 July 2023: AuthorizeSecurityGroupIngress."""
    rule = "<groupId>sg-1</groupId><isEgress>false</isEgress><fromPort>443</fromPort>"
    assert answered(
        "AuthorizeSecurityGroupIngress",
        f"<requestId>0c897921</requestId><return>true</return>"
        f"<securityGroupRuleSet><item>{rule}</item></securityGroupRuleSet>",
    ) == {
        "requestId": "0c897921",
        "_return": True,
        "securityGroupRuleSet": {
            "items": [{"groupId": "sg-1", "isEgress": False, "fromPort": 443}]
        },
    }


def test_times_are_milliseconds_and_empty_strings_are_omitted() -> None:
    """Invictus, 10 July 2023: CreateSnapshot, whose size is a string."""
    assert answered(
        "CreateSnapshot",
        "<requestId>d0778782</requestId><snapshotId>snap-1</snapshotId><status>pending</status>"
        "<startTime>2023-07-10T12:11:26.923Z</startTime><progress/><volumeSize>1</volumeSize>"
        "<encrypted>false</encrypted><tagSet/>",
    ) == {
        "requestId": "d0778782",
        "snapshotId": "snap-1",
        "status": "pending",
        "startTime": 1688991086923,
        "volumeSize": "1",
        "encrypted": False,
        "tagSet": {},
    }


def test_private_addresses_of_an_answer_are_in_item() -> None:
    """Invictus, 10 July 2023: CreateNetworkInterface."""
    inner = "<item><privateIpAddress>10.0.1.10</privateIpAddress><primary>true</primary></item>"
    found = answered(
        "CreateNetworkInterface",
        f"<networkInterface><groupSet><item><groupId>sg-1</groupId></item></groupSet>"
        f"<privateIpAddressesSet>{inner}</privateIpAddressesSet><ipv6AddressesSet/>"
        f"</networkInterface>",
    )
    assert found == {
        "networkInterface": {
            "groupSet": {"items": [{"groupId": "sg-1"}]},
            "privateIpAddressesSet": {"item": [{"privateIpAddress": "10.0.1.10", "primary": True}]},
            "ipv6AddressesSet": {},
        }
    }


def test_terminated_instances_have_both_states() -> None:
    """CloudTrail's user guide."""
    states = (
        "<currentState><code>32</code><name>shutting-down</name></currentState>"
        "<previousState><code>16</code><name>running</name></previousState>"
    )
    inner = f"<item><instanceId>i-1a2b3c4d</instanceId>{states}</item>"
    assert answered("TerminateInstances", f"<instancesSet>{inner}</instancesSet>") == {
        "instancesSet": {
            "items": [
                {
                    "instanceId": "i-1a2b3c4d",
                    "currentState": {"code": 32, "name": "shutting-down"},
                    "previousState": {"code": 16, "name": "running"},
                }
            ]
        }
    }


def test_created_key_pair_is_recorded_without_the_key() -> None:
    """CloudTrail's user guide."""
    assert answered(
        "CreateKeyPair",
        "<keyName>mykeypair</keyName><keyFingerprint>30:1d:46</keyFingerprint>"
        "<keyMaterial>-----BEGIN RSA PRIVATE KEY-----</keyMaterial>",
    ) == {
        "keyName": "mykeypair",
        "keyFingerprint": "30:1d:46",
        "keyMaterial": "<sensitiveDataRemoved>",
    }


def test_later_operations_answer_with_converted_xml() -> None:
    """Invictus, 10 July 2023: CreateFlowLogs."""
    assert answered(
        "CreateFlowLogs",
        "<requestId>353ea5d4</requestId><clientToken>oueUIFMk93w=</clientToken>"
        "<unsuccessful/><flowLogIdSet><item>fl-064ed3a785e4a37ef</item></flowLogIdSet>",
    ) == {
        "CreateFlowLogsResponse": {
            "xmlns": XMLNS,
            "requestId": "353ea5d4",
            "clientToken": "oueUIFMk93w=",
            "unsuccessful": "",
            "flowLogIdSet": {"item": "fl-064ed3a785e4a37ef"},
        }
    }


def test_empty_answers_pass_and_broken_ones_fail() -> None:
    route = Route(ec2(), "CreateTags", "ec2")
    assert ec2_answer(route, Response(200, {}, b" ")) is None
    with pytest.raises(ValueError, match="XML"):
        ec2_answer(route, Response(200, {}, b"<CreateTagsResponse>"))


# Secrets


def test_user_data_of_an_instance_is_removed_whole() -> None:
    """Panther's and other records of ModifyInstanceAttribute."""
    found = shown("ModifyInstanceAttribute", InstanceId="i-1", UserData={"Value": b"hunter2"})
    assert found == {"instanceId": "i-1", "userData": "<sensitiveDataRemoved>"}


def sensitive_paths(shape: Any, seen: frozenset[str] = frozenset()) -> list[list[str]]:
    """Returns the paths to every sensitive scalar of a shape, by the model's names."""
    if shape is None or shape.name in seen:
        return []
    if shape.type_name == "list":
        return sensitive_paths(shape.member, seen | {shape.name})
    if shape.type_name != "structure":
        return [[]] if shape.metadata.get("sensitive") else []
    return [
        [name, *rest]
        for name, member in shape.members.items()
        for rest in sensitive_paths(member, seen | {shape.name})
    ]


def built(shape: Any, path: list[str], value: str) -> Any:
    """Returns parameters with only `value`, at a path."""
    if shape.type_name == "list":
        return [built(shape.member, path, value)]
    if shape.type_name == "structure":
        return {path[0]: built(shape.members[path[0]], path[1:], value)}
    return value.encode() if shape.type_name == "blob" else value


def test_sensitive_members_of_requests_are_hidden() -> None:
    """Blobs travel in base 64, so the test searches for both spellings."""
    tried = 0
    for operation in ec2().model.operation_names:
        shape = ec2().model.operation_model(operation).input_shape
        for path in sensitive_paths(shape):
            text = json.dumps(shown(operation, **built(shape, path, "hunter2hunter2")))
            assert "hunter2" not in text, (operation, path)
            assert "aHVudGVyMmh1bnRlcjI" not in text, (operation, path)
            tried += 1
    assert tried > 20


def elements(shape: Shape | Any, path: list[str], value: str) -> str:
    """Returns the XML with `value` at a path."""
    if shape.type_name == "list":
        return f"<item>{elements(shape.member, path, value)}</item>"
    if shape.type_name != "structure":
        return value
    member = shape.members[path[0]]
    name = member.serialization.get("name", path[0])
    return f"<{name}>{elements(member, path[1:], value)}</{name}>"


def test_sensitive_members_of_answers_are_hidden() -> None:
    tried = 0
    for operation in ec2().model.operation_names:
        shape = ec2().model.operation_model(operation).output_shape
        for path in sensitive_paths(shape):
            found = answered(operation, elements(shape, path, "hunter2"))
            assert "hunter2" not in json.dumps(found), (operation, path)
            tried += 1
    assert tried > 10


@pytest.mark.parametrize("operation", ["RunInstances", "CreateFleet", "NobodyKnowsIt"])
@pytest.mark.parametrize("name", ["Password", "A.1.PrivateKey", "X.UserData.Data", "secretKey.1"])
def test_names_that_sound_like_secrets_hide_their_values(operation: str, name: str) -> None:
    assert "hunter2" not in json.dumps(raw(operation, {name: "hunter2"}))


def test_signatures_in_the_form_are_not_parameters() -> None:
    query = (
        "Action=DescribeRegions&Version=2016-11-15&X-Amz-Signature=hunter2&SecurityToken=hunter2"
    )
    request = a_request(method="GET", query=query)
    assert ec2_parameters(Route(ec2(), "DescribeRegions", "ec2"), request, {}) == {"regionSet": {}}


# Robustness


def test_unknown_members_are_kept() -> None:
    assert raw(
        "CreateTags",
        {"NewFlag": "true", "NewId.1": "a", "NewThing.1.Deep.Name": "b", "Tag.1.Color": "red"},
    ) == {
        "newFlag": True,
        "newIdSet": {"items": [{"newId": "a"}]},
        "newThingSet": {"items": [{"deep": {"name": "b"}}]},
        "tagSet": {"items": [{"color": "red"}]},
    }
    assert raw("NobodyKnowsIt", {"A.2": "y", "A.1": "x", "B": "007", "C.D": "7"}) == {
        "NobodyKnowsItRequest": {
            "A": [{"tag": 1, "content": "x"}, {"tag": 2, "content": "y"}],
            "B": "007",
            "C": {"D": 7},
        }
    }


def test_invalid_utf_8_is_marked() -> None:
    form = {"content-type": "application/x-www-form-urlencoded"}
    request = a_request("ec2", headers=form, body=b"A\x80=\xff")
    found = ec2_parameters(Route(ec2(), "DescribeTags", "ec2"), request, {})
    assert found == {"a\ufffd": "\ufffd", "filterSet": {}}


def test_values_for_the_same_place_are_both_kept() -> None:
    found = raw("RunInstances", {"GroupSet": "x", "SecurityGroupId.1": "sg-1", "InstancesSet": "y"})
    assert found["groupSet"] == {"items": ["x", {"groupId": "sg-1"}]}
    assert found["instancesSet"] == "y"
    both = raw("RunInstances", {"SecurityGroupId.1": "sg-1", "SecurityGroup.1": "default"})
    assert both["groupSet"] == {"items": [{"groupId": "sg-1"}, {"groupName": "default"}]}


PARTS = (
    "1 2 0 Filter Value Name ImageId Placement Tenancy GroupSet SecurityGroupId InstancesSet "
    "TagSpecification Tag Tags Items items é UserData "
)
PART = st.sampled_from(PARTS.split(" "))
FIELDS = st.dictionaries(
    st.lists(PART, min_size=1, max_size=5).map(".".join), st.text(max_size=3), max_size=8
)


@pytest.mark.hypothesis
@given(FIELDS, st.sampled_from(["RunInstances", "DescribeInstances", "CreateFlowLogs"]))
def test_any_form_has_parameters(fields: dict[str, str], operation: str) -> None:
    json.dumps(raw(operation, fields))


def test_every_listed_operation_is_in_the_model() -> None:
    tables = rules("ec2")
    named = set(tables["earlier"]["operations"])
    for table in ("lists", "names", "values", "answer_names"):
        named |= tables[table].keys() - {"*"}
    for table in ("later_root", "left_out", "as_text", "always"):
        named |= tables[table].keys()
    assert named - set(ec2().model.operation_names) == set()
    inside = [
        operation
        for table in ("lists", "names", "values", "left_out", "as_text", "always", "answer_names")
        for operation in tables[table].keys() - {"*"}
    ]
    assert [operation for operation in inside if not is_earlier(operation)] == []
