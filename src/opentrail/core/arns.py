"""Parses ARNs: type, name and account of a resource.

arn:aws:sqs:us-east-1:123456789012:queue the whole rest is the name
arn:aws:iam::123456789012:user/path/Mary the last part is the name, the first the kind

Lookups by a CloudTrail resource's ARN and policy decisions must mean the same resource, so both
parse ARNs here (cloudtrail-format §1.2).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from opentrail.core.text import cached_if_short

#: Service in an ARN → kind in it (the word before the first `/` or `:`; "" for a bare name) →
#: CloudFormation type. A new service is a new row.
ARN_TYPES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "acm": {"certificate": "AWS::CertificateManager::Certificate"},
        "athena": {"workgroup": "AWS::Athena::WorkGroup"},
        "autoscaling": {"autoScalingGroup": "AWS::AutoScaling::AutoScalingGroup"},
        "backup": {"backup-vault": "AWS::Backup::BackupVault"},
        "cloudformation": {"stack": "AWS::CloudFormation::Stack"},
        "cloudfront": {"distribution": "AWS::CloudFront::Distribution"},
        "cloudtrail": {
            "trail": "AWS::CloudTrail::Trail",
            "eventdatastore": "AWS::CloudTrail::EventDataStore",
            "channel": "AWS::CloudTrail::Channel",
            "dashboard": "AWS::CloudTrail::Dashboard",
        },
        "cloudwatch": {"alarm": "AWS::CloudWatch::Alarm"},
        "codebuild": {"project": "AWS::CodeBuild::Project"},
        "cognito-idp": {"userpool": "AWS::Cognito::UserPool"},
        "dynamodb": {"table": "AWS::DynamoDB::Table"},
        "ec2": {
            "elastic-ip": "AWS::EC2::EIP",
            "image": "AWS::EC2::Ami",
            "instance": "AWS::EC2::Instance",
            "internet-gateway": "AWS::EC2::InternetGateway",
            "key-pair": "AWS::EC2::KeyPair",
            "launch-template": "AWS::EC2::LaunchTemplate",
            "natgateway": "AWS::EC2::NatGateway",
            "network-acl": "AWS::EC2::NetworkAcl",
            "network-interface": "AWS::EC2::NetworkInterface",
            "route-table": "AWS::EC2::RouteTable",
            "security-group": "AWS::EC2::SecurityGroup",
            "snapshot": "AWS::EC2::Snapshot",
            "subnet": "AWS::EC2::Subnet",
            "volume": "AWS::EC2::Volume",
            "vpc": "AWS::EC2::VPC",
            "vpc-endpoint": "AWS::EC2::VPCEndpoint",
            "vpc-flow-log": "AWS::EC2::FlowLog",
        },
        "ecr": {"repository": "AWS::ECR::Repository"},
        "ecs": {
            "cluster": "AWS::ECS::Cluster",
            "service": "AWS::ECS::Service",
            "task-definition": "AWS::ECS::TaskDefinition",
        },
        "eks": {"cluster": "AWS::EKS::Cluster"},
        "elasticfilesystem": {"file-system": "AWS::EFS::FileSystem"},
        "elasticloadbalancing": {
            "loadbalancer": "AWS::ElasticLoadBalancingV2::LoadBalancer",
            "targetgroup": "AWS::ElasticLoadBalancingV2::TargetGroup",
            "listener": "AWS::ElasticLoadBalancingV2::Listener",
        },
        "events": {"rule": "AWS::Events::Rule", "event-bus": "AWS::Events::EventBus"},
        "firehose": {"deliverystream": "AWS::KinesisFirehose::DeliveryStream"},
        "glue": {
            "database": "AWS::Glue::Database",
            "job": "AWS::Glue::Job",
            "table": "AWS::Glue::Table",
        },
        "guardduty": {"detector": "AWS::GuardDuty::Detector"},
        "iam": {
            "user": "AWS::IAM::User",
            "role": "AWS::IAM::Role",
            "group": "AWS::IAM::Group",
            "policy": "AWS::IAM::Policy",
            "instance-profile": "AWS::IAM::InstanceProfile",
            "mfa": "AWS::IAM::MFADevice",
            "saml-provider": "AWS::IAM::SAMLProvider",
            "oidc-provider": "AWS::IAM::OIDCProvider",
            "server-certificate": "AWS::IAM::ServerCertificate",
        },
        "kinesis": {"stream": "AWS::Kinesis::Stream"},
        "kms": {"key": "AWS::KMS::Key", "alias": "AWS::KMS::Alias"},
        "lambda": {"function": "AWS::Lambda::Function", "layer": "AWS::Lambda::LayerVersion"},
        "logs": {"log-group": "AWS::Logs::LogGroup"},
        "rds": {
            "db": "AWS::RDS::DBInstance",
            "cluster": "AWS::RDS::DBCluster",
            "snapshot": "AWS::RDS::DBSnapshot",
            "subgrp": "AWS::RDS::DBSubnetGroup",
        },
        "redshift": {"cluster": "AWS::Redshift::Cluster"},
        "route53": {"hostedzone": "AWS::Route53::HostedZone"},
        "s3": {"": "AWS::S3::Bucket", "*": "AWS::S3::Object"},
        "secretsmanager": {"secret": "AWS::SecretsManager::Secret"},
        "sns": {"": "AWS::SNS::Topic"},
        "sqs": {"": "AWS::SQS::Queue"},
        "ssm": {"parameter": "AWS::SSM::Parameter", "document": "AWS::SSM::Document"},
        "states": {"stateMachine": "AWS::StepFunctions::StateMachine"},
        "sts": {"assumed-role": "AWS::STS::AssumedRole"},
        "wafv2": {"regional": "AWS::WAFv2::WebACL", "global": "AWS::WAFv2::WebACL"},
    }
)

#: Event source without `.amazonaws.com` → the service's word in CloudFormation's type names, for
#: the types that its Create, Update and Delete calls act on.
NAMESPACES: Mapping[str, str] = MappingProxyType(
    {
        "acm": "CertificateManager",
        "apigateway": "ApiGateway",
        "appsync": "AppSync",
        "athena": "Athena",
        "autoscaling": "AutoScaling",
        "backup": "Backup",
        "batch": "Batch",
        "bedrock": "Bedrock",
        "cloudformation": "CloudFormation",
        "cloudfront": "CloudFront",
        "cloudtrail": "CloudTrail",
        "codebuild": "CodeBuild",
        "codecommit": "CodeCommit",
        "codepipeline": "CodePipeline",
        "cognito-identity": "Cognito",
        "cognito-idp": "Cognito",
        "config": "Config",
        "dms": "DMS",
        "dynamodb": "DynamoDB",
        "ec2": "EC2",
        "ecr": "ECR",
        "ecs": "ECS",
        "eks": "EKS",
        "eks-auth": "EKS",
        "elasticache": "ElastiCache",
        "elasticfilesystem": "EFS",
        "elasticloadbalancing": "ElasticLoadBalancingV2",
        "es": "Elasticsearch",
        "events": "Events",
        "firehose": "KinesisFirehose",
        "glue": "Glue",
        "guardduty": "GuardDuty",
        "iam": "IAM",
        "iot": "IoT",
        "kafka": "MSK",
        "kinesis": "Kinesis",
        "kms": "KMS",
        "lambda": "Lambda",
        "logs": "Logs",
        "monitoring": "CloudWatch",
        "mq": "AmazonMQ",
        "organizations": "Organizations",
        "pipes": "Pipes",
        "rds": "RDS",
        "redshift": "Redshift",
        "route53": "Route53",
        "sagemaker": "SageMaker",
        "scheduler": "Scheduler",
        "secretsmanager": "SecretsManager",
        "servicediscovery": "ServiceDiscovery",
        "ses": "SES",
        "sns": "SNS",
        "sqs": "SQS",
        "ssm": "SSM",
        "sso": "SSO",
        "states": "StepFunctions",
        "transfer": "Transfer",
        "wafv2": "WAFv2",
        "workspaces": "WorkSpaces",
    }
)

#: The ARN of a role session; group 1 is the ARN without the session. DuckDB also uses the pattern.
ROLE_SESSION = "^(arn:[^:]*:sts::[^:]*:assumed-role/[^/]+)/.*$"
_ROLE_SESSION = re.compile(ROLE_SESSION)
_FORM = re.compile(r"arn:[^:]*:([^:]+):([^:]*):([^:]*):(.+)", re.DOTALL)
#: Services whose names contain slashes: the name is everything after the kind.
_LONG_NAMES = ("s3", "ssm", "logs", "secretsmanager", "ecr")


@dataclass(frozen=True, slots=True)
class Arn:
    """The parts of an ARN."""

    service: str
    region: str
    account: str
    type: str | None
    name: str


#: Maximum characters of a cached ARN; AWS's have no more, but callers may send any.
_MAX_LENGTH = 2_048


@cached_if_short(_MAX_LENGTH, 2_048)
def parse_arn(text: str) -> Arn | None:
    """Returns the parsed ARN; None if the text is not an ARN.

    >>> parse_arn("arn:aws:iam::123456789012:user/staff/Mary").name
    'Mary'
    >>> parse_arn("arn:aws:sqs:us-east-1:123456789012:jobs").type
    'AWS::SQS::Queue'
    """
    form = _FORM.fullmatch(text)
    if form is None:
        return None
    service, region, account, rest = form.groups()
    kinds = ARN_TYPES.get(service, {})
    if "" in kinds:
        deeper = "/" in rest and "*" in kinds
        name = rest.partition("/")[2] if deeper else rest
        return Arn(service, region, account, kinds["*" if deeper else ""], name or rest)
    kind, name = _split(rest)
    if service not in _LONG_NAMES:
        name = name.rpartition("/")[2] or name
    if service == "logs":
        name = name.removesuffix(":*").partition(":log-stream:")[0]
    if service == "ssm" and kind == "parameter" and "/" in name:
        name = f"/{name}"  # `/a/b` is `parameter/a/b`
    return Arn(service, region, account, kinds.get(kind), name or rest)


def _split(rest: str) -> tuple[str, str]:
    mark = re.search(r"[/:]", rest)
    return (rest[: mark.start()], rest[mark.end() :]) if mark else ("", rest)


def without_session(arn: str) -> str:
    """Returns an ARN without the session name, if it is a role session's.

    >>> without_session("arn:aws:sts::123456789012:assumed-role/deploy/i-0abc")
    'arn:aws:sts::123456789012:assumed-role/deploy'
    >>> without_session("arn:aws:iam::123456789012:user/staff/Mary")
    'arn:aws:iam::123456789012:user/staff/Mary'
    """
    return _ROLE_SESSION.sub(r"\1", arn)


TRAIL, STORE, CHANNEL, DASHBOARD = TYPES = ("trail", "eventdatastore", "channel", "dashboard")
_CLOUDTRAIL_FORM = re.compile(r"arn:aws[a-z-]*:cloudtrail:([a-z0-9-]+):([0-9]{12}):([a-z]+)/(.+)")


@dataclass(frozen=True, slots=True)
class CloudTrailArn:
    """The parts of a CloudTrail resource's ARN."""

    #: One of `TYPES`, or an unknown type.
    type: str
    region: str
    account: str
    #: Name of a trail or dashboard, id of an event data store or channel.
    name: str

    def __str__(self) -> str:
        """Returns the one form in which opentrail writes the ARN, whatever its partition."""
        return f"arn:aws:cloudtrail:{self.region}:{self.account}:{self.type}/{self.name}"


def read_cloudtrail_arn(text: str) -> CloudTrailArn | None:
    """Returns the parts of an ARN; None if the text is not the ARN of a CloudTrail resource.

    >>> read_cloudtrail_arn("arn:aws:cloudtrail:us-east-1:123456789012:trail/my-trail").name
    'my-trail'
    """
    form = _CLOUDTRAIL_FORM.fullmatch(text)
    if form is None:
        return None
    region, account, kind, name = form.groups()
    return CloudTrailArn(kind, region, account, name)
