"""The members of a record that name resources, and the resources' types (cloudtrail-format §6).

AWS's own tables are unpublished; these agree with AWS's public lookups. A row reads: in records of
this event source, the member of this name (in request or answer, at any of the first two levels)
names a resource of this type. Services without rows follow rules (`attributes`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

#: event source without `.amazonaws.com` → member name → CloudFormation type name.
RESOURCE_MEMBERS = MappingProxyType(
    {
        "s3": {"bucketName": "AWS::S3::Bucket", "key": "AWS::S3::Object"},
        "iam": {
            "userName": "AWS::IAM::User",
            "roleName": "AWS::IAM::Role",
            "groupName": "AWS::IAM::Group",
            "policyArn": "AWS::IAM::Policy",
            "policyName": "AWS::IAM::Policy",
            "instanceProfileName": "AWS::IAM::InstanceProfile",
            "accessKeyId": "AWS::IAM::AccessKey",
            "serialNumber": "AWS::IAM::MFADevice",
            "sAMLProviderArn": "AWS::IAM::SAMLProvider",
            "openIDConnectProviderArn": "AWS::IAM::OIDCProvider",
            "serverCertificateName": "AWS::IAM::ServerCertificate",
        },
        "sts": {
            "roleArn": "AWS::IAM::Role",
            "accessKeyId": "AWS::IAM::AccessKey",
            "assumedRoleId": "AWS::STS::AssumedRole",
            "roleSessionName": "AWS::STS::AssumedRole",
        },
        "ec2": {
            "instanceId": "AWS::EC2::Instance",
            "imageId": "AWS::EC2::Ami",
            "groupId": "AWS::EC2::SecurityGroup",
            "groupName": "AWS::EC2::SecurityGroup",
            "vpcId": "AWS::EC2::VPC",
            "subnetId": "AWS::EC2::Subnet",
            "networkInterfaceId": "AWS::EC2::NetworkInterface",
            "volumeId": "AWS::EC2::Volume",
            "snapshotId": "AWS::EC2::Snapshot",
            "keyName": "AWS::EC2::KeyPair",
            "routeTableId": "AWS::EC2::RouteTable",
            "internetGatewayId": "AWS::EC2::InternetGateway",
            "networkAclId": "AWS::EC2::NetworkAcl",
            "natGatewayId": "AWS::EC2::NatGateway",
            "vpcEndpointId": "AWS::EC2::VPCEndpoint",
            "launchTemplateId": "AWS::EC2::LaunchTemplate",
            "launchTemplateName": "AWS::EC2::LaunchTemplate",
        },
        "kms": {
            "keyId": "AWS::KMS::Key",
            "targetKeyId": "AWS::KMS::Key",
            "aliasName": "AWS::KMS::Alias",
        },
        "lambda": {
            "functionName": "AWS::Lambda::Function",
            "functionArn": "AWS::Lambda::Function",
        },
        "dynamodb": {"tableName": "AWS::DynamoDB::Table", "tableArn": "AWS::DynamoDB::Table"},
        "sns": {"topicArn": "AWS::SNS::Topic", "name": "AWS::SNS::Topic"},
        "sqs": {"queueName": "AWS::SQS::Queue", "queueUrl": "AWS::SQS::Queue"},
        "rds": {
            "dBInstanceIdentifier": "AWS::RDS::DBInstance",
            "dBClusterIdentifier": "AWS::RDS::DBCluster",
            "dBSnapshotIdentifier": "AWS::RDS::DBSnapshot",
            "dBSubnetGroupName": "AWS::RDS::DBSubnetGroup",
            "dBInstanceArn": "AWS::RDS::DBInstance",
            "dBClusterArn": "AWS::RDS::DBCluster",
            "dBSnapshotArn": "AWS::RDS::DBSnapshot",
        },
        "cloudformation": {
            "stackName": "AWS::CloudFormation::Stack",
            "stackId": "AWS::CloudFormation::Stack",
        },
        "cloudtrail": {
            "name": "AWS::CloudTrail::Trail",
            "trailName": "AWS::CloudTrail::Trail",
            "trailARN": "AWS::CloudTrail::Trail",
            "s3BucketName": "AWS::S3::Bucket",
            "eventDataStore": "AWS::CloudTrail::EventDataStore",
        },
        "logs": {
            "logGroupName": "AWS::Logs::LogGroup",
            "logStreamName": "AWS::Logs::LogStream",
        },
        "autoscaling": {"autoScalingGroupName": "AWS::AutoScaling::AutoScalingGroup"},
        "elasticloadbalancing": {
            "loadBalancerName": "AWS::ElasticLoadBalancing::LoadBalancer",
            "loadBalancerArn": "AWS::ElasticLoadBalancingV2::LoadBalancer",
        },
        "secretsmanager": {"secretId": "AWS::SecretsManager::Secret"},
        "ssm": {"name": "AWS::SSM::Parameter"},
        "ecr": {
            "repositoryName": "AWS::ECR::Repository",
            "repositoryArn": "AWS::ECR::Repository",
        },
        "ecs": {
            "cluster": "AWS::ECS::Cluster",
            "clusterName": "AWS::ECS::Cluster",
            "clusterArn": "AWS::ECS::Cluster",
        },
        "eks": {"clusterName": "AWS::EKS::Cluster"},
        "eks-auth": {"clusterName": "AWS::EKS::Cluster"},
    }
)

#: event source → word in an event's name → member → type; precedes the table above.
OF_EVENTS: Mapping[str, Mapping[str, Mapping[str, str | None]]] = MappingProxyType(
    {
        "cloudtrail": {
            "Channel": {
                "name": "AWS::CloudTrail::Channel",
                "channel": "AWS::CloudTrail::Channel",
                "channelArn": "AWS::CloudTrail::Channel",
            },
            "Dashboard": {
                "name": "AWS::CloudTrail::Dashboard",
                "dashboardId": "AWS::CloudTrail::Dashboard",
                "dashboardArn": "AWS::CloudTrail::Dashboard",
            },
            "EventDataStore": {
                "name": "AWS::CloudTrail::EventDataStore",
                "eventDataStoreArn": "AWS::CloudTrail::EventDataStore",
            },
        },
        "eks": {"Cluster": {"name": "AWS::EKS::Cluster"}},
        "elasticloadbalancing": {
            "LoadBalancer": {"name": "AWS::ElasticLoadBalancingV2::LoadBalancer"},
        },
        "secretsmanager": {
            "Secret": {
                "name": "AWS::SecretsManager::Secret",
                "aRN": "AWS::SecretsManager::Secret",
                "arn": "AWS::SecretsManager::Secret",
            },
        },
        "sns": {"PlatformApplication": {"name": None}},
        "ssm": {
            "Document": {"name": "AWS::SSM::Document"},
            "PatchBaseline": {"name": None},
            "Window": {"name": None},
        },
    }
)

#: Members of answers that contain the call's resource under a different name.
WRAPPERS = MappingProxyType(
    {
        "sts": {"assumedRoleUser": "AWS::STS::AssumedRole"},
        "kms": {"keyMetadata": "AWS::KMS::Key"},
    }
)

#: Members of EC2 with an id of any kind: its prefix determines the type.
ID_MEMBERS = ("resourceId",)

#: Prefix of an EC2 id → type.
ID_TYPES = MappingProxyType(
    {
        "ami": "AWS::EC2::Ami",
        "eipalloc": "AWS::EC2::EIP",
        "eni": "AWS::EC2::NetworkInterface",
        "fl": "AWS::EC2::FlowLog",
        "i": "AWS::EC2::Instance",
        "acl": "AWS::EC2::NetworkAcl",
        "igw": "AWS::EC2::InternetGateway",
        "lt": "AWS::EC2::LaunchTemplate",
        "nat": "AWS::EC2::NatGateway",
        "rtb": "AWS::EC2::RouteTable",
        "sg": "AWS::EC2::SecurityGroup",
        "snap": "AWS::EC2::Snapshot",
        "subnet": "AWS::EC2::Subnet",
        "vol": "AWS::EC2::Volume",
        "vpc": "AWS::EC2::VPC",
        "vpce": "AWS::EC2::VPCEndpoint",
    }
)

#: Everyday names of resource types, for sentences.
SPOKEN = MappingProxyType(
    {
        "AWS::AutoScaling::AutoScalingGroup": "Auto Scaling group",
        "AWS::CertificateManager::Certificate": "certificate",
        "AWS::CloudFormation::Stack": "CloudFormation stack",
        "AWS::CloudTrail::EventDataStore": "event data store",
        "AWS::CloudTrail::Trail": "trail",
        "AWS::CloudWatch::Alarm": "CloudWatch alarm",
        "AWS::DynamoDB::Table": "DynamoDB table",
        "AWS::EC2::Ami": "machine image",
        "AWS::EC2::EIP": "Elastic IP address",
        "AWS::EC2::FlowLog": "flow log",
        "AWS::EC2::Instance": "EC2 instance",
        "AWS::EC2::InternetGateway": "internet gateway",
        "AWS::EC2::KeyPair": "key pair",
        "AWS::EC2::LaunchTemplate": "launch template",
        "AWS::EC2::NatGateway": "NAT gateway",
        "AWS::EC2::NetworkAcl": "network ACL",
        "AWS::EC2::NetworkInterface": "network interface",
        "AWS::EC2::RouteTable": "route table",
        "AWS::EC2::SecurityGroup": "security group",
        "AWS::EC2::Snapshot": "EBS snapshot",
        "AWS::EC2::Subnet": "subnet",
        "AWS::EC2::VPC": "VPC",
        "AWS::EC2::VPCEndpoint": "VPC endpoint",
        "AWS::EC2::Volume": "EBS volume",
        "AWS::ECR::Repository": "container repository",
        "AWS::ECS::Cluster": "ECS cluster",
        "AWS::EKS::Cluster": "EKS cluster",
        "AWS::ElasticLoadBalancing::LoadBalancer": "load balancer",
        "AWS::ElasticLoadBalancingV2::LoadBalancer": "load balancer",
        "AWS::Events::Rule": "EventBridge rule",
        "AWS::IAM::AccessKey": "access key",
        "AWS::IAM::Group": "IAM group",
        "AWS::IAM::InstanceProfile": "instance profile",
        "AWS::IAM::MFADevice": "MFA device",
        "AWS::IAM::OIDCProvider": "OIDC provider",
        "AWS::IAM::Policy": "IAM policy",
        "AWS::IAM::Role": "IAM role",
        "AWS::IAM::SAMLProvider": "SAML provider",
        "AWS::IAM::ServerCertificate": "server certificate",
        "AWS::IAM::User": "IAM user",
        "AWS::KMS::Alias": "KMS alias",
        "AWS::KMS::Key": "KMS key",
        "AWS::Kinesis::Stream": "Kinesis stream",
        "AWS::Lambda::Function": "Lambda function",
        "AWS::Logs::LogGroup": "log group",
        "AWS::Logs::LogStream": "log stream",
        "AWS::RDS::DBCluster": "RDS cluster",
        "AWS::RDS::DBInstance": "RDS instance",
        "AWS::RDS::DBSnapshot": "RDS snapshot",
        "AWS::RDS::DBSubnetGroup": "RDS subnet group",
        "AWS::Route53::HostedZone": "hosted zone",
        "AWS::S3::Bucket": "S3 bucket",
        "AWS::S3::Object": "S3 object",
        "AWS::SNS::Topic": "SNS topic",
        "AWS::SQS::Queue": "SQS queue",
        "AWS::SSM::Document": "SSM document",
        "AWS::SSM::Parameter": "parameter",
        "AWS::STS::AssumedRole": "role session",
        "AWS::SecretsManager::Secret": "secret",
        "AWS::StepFunctions::StateMachine": "state machine",
    }
)
