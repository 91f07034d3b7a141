"""Which members of a record name a resource, and of what type (cloudtrail-facts §4).

AWS's own tables are unpublished. A row here reads: in records of this event source, the member of
this name (in request or answer, at any of the first two levels) names a resource of this type.
"""

from __future__ import annotations

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
        },
        "kms": {"keyId": "AWS::KMS::Key", "aliasName": "AWS::KMS::Alias"},
        "lambda": {"functionName": "AWS::Lambda::Function"},
        "dynamodb": {"tableName": "AWS::DynamoDB::Table", "tableArn": "AWS::DynamoDB::Table"},
        "sns": {"topicArn": "AWS::SNS::Topic"},
        "sqs": {"queueName": "AWS::SQS::Queue", "queueUrl": "AWS::SQS::Queue"},
        "rds": {
            "dBInstanceIdentifier": "AWS::RDS::DBInstance",
            "dBClusterIdentifier": "AWS::RDS::DBCluster",
            "dBSnapshotIdentifier": "AWS::RDS::DBSnapshot",
            "dBSubnetGroupName": "AWS::RDS::DBSubnetGroup",
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
        "ecr": {"repositoryName": "AWS::ECR::Repository"},
        "ecs": {"cluster": "AWS::ECS::Cluster", "clusterName": "AWS::ECS::Cluster"},
        "eks": {"clusterName": "AWS::EKS::Cluster"},
    }
)

#: What a person calls a resource of a type, in sentences.
SPOKEN = MappingProxyType(
    {
        "AWS::IAM::User": "IAM user",
        "AWS::IAM::Role": "IAM role",
        "AWS::IAM::Group": "IAM group",
        "AWS::IAM::Policy": "IAM policy",
        "AWS::IAM::InstanceProfile": "instance profile",
        "AWS::IAM::AccessKey": "access key",
        "AWS::S3::Bucket": "S3 bucket",
        "AWS::S3::Object": "S3 object",
        "AWS::SQS::Queue": "SQS queue",
        "AWS::SNS::Topic": "SNS topic",
        "AWS::DynamoDB::Table": "DynamoDB table",
        "AWS::Lambda::Function": "Lambda function",
        "AWS::KMS::Key": "KMS key",
        "AWS::EC2::Instance": "EC2 instance",
        "AWS::EC2::SecurityGroup": "security group",
        "AWS::CloudTrail::Trail": "trail",
        "AWS::SecretsManager::Secret": "secret",
        "AWS::SSM::Parameter": "parameter",
        "AWS::CloudFormation::Stack": "CloudFormation stack",
        "AWS::RDS::DBInstance": "RDS instance",
    }
)
