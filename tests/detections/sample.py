"""Our own rules, which together use all supported parts of Sigma."""

from __future__ import annotations

from pathlib import Path

#: Member `detection` of each rule, by name.
DETECTIONS = {
    "one_name": "{s: {eventName: runinstances}, condition: s}",
    "names": "{s: {eventName: [GetObject, 'List*', createuser]}, condition: s}",
    "two_fields": "{s: {eventSource: IAM.amazonaws.com, eventName: [CreateUser, ListUsers]},"
    " condition: s}",
    "source": "{s: {eventSource: s3.amazonaws.com}, condition: s}",
    "not_source": "{s: {eventSource: s3.amazonaws.com}, condition: not s}",
    "several": "{a: {errorCode: AccessDenied}, b: {errorCode|contains: Unauthorized},"
    " f: {userIdentity.type: AWSService}, condition: 1 of a or b and not f}",
    "all_of_them": "{a_1: {readOnly: true}, a_2: {eventSource|startswith: ec2},"
    " condition: all of a_*}",
    "list_of_maps": "{s: [{eventName: GetObject}, {userAgent|contains: boto}], condition: s}",
    "contains_all": "{s: {userAgent|contains|all: [aws, linux]}, condition: s}",
    "starts": "{s: {userIdentity.arn|startswith: 'arn:aws:sts::'}, condition: s}",
    "ends": "{s: {userIdentity.arn|endswith: ':ROOT'}, condition: s}",
    "wildcards": "{s: {userAgent: '*a?s*cli*2*'}, condition: s}",
    "escaped": r"{s: {userAgent: '*\**'}, condition: s}",
    "cased": "{s: {eventName|cased: [ListBuckets, getobject]}, condition: s}",
    "cased_part": "{s: {userAgent|contains|cased: Boto3}, condition: s}",
    "regex": r"{s: {userIdentity.arn|re: ':assumed-role/[^/]+/i-[0-9a-f]+$'}, condition: s}",
    "regex_ignoring_case": "{s: {userAgent|re|i: 'BOTO3/1[.]2'}, condition: s}",
    "network": "{s: {sourceIPAddress|cidr: [10.0.0.0/8, 192.0.0.0/6]}, condition: s}",
    "null": "{s: {errorCode: null, eventSource: kms.amazonaws.com}, condition: s}",
    "not_null": "{s: {errorCode: null}, condition: not s}",
    "exists": "{s: {additionalEventData.bytesTransferredOut|exists: true}, condition: s}",
    "exists_not": "{s: {userIdentity.sessionContext|exists: false}, condition: s}",
    "more": "{s: {additionalEventData.bytesTransferredOut|gt: 100}, condition: s}",
    "less": "{s: {additionalEventData.bytesTransferredOut|lte: 100}, condition: s}",
    "number": "{s: {additionalEventData.bytesTransferredIn: 0}, condition: s}",
    "version": "{s: {eventVersion|gte: 1.08}, condition: s}",
    "boolean": "{s: {managementEvent: true}, condition: s}",
    "boolean_text": "{s: {responseElements.publiclyAccessible: 'False'}, condition: s}",
    "in_lists": "{s: {resources.type: 'AWS::S3::Bucket'}, condition: s}",
    "in_lists_not": "{s: {resources.type: 'AWS::S3::Object'}, condition: not s}",
    "object": "{s: {requestParameters|contains: '\"bucketName\":'}, condition: s}",
    "keywords": "{k: ['secret', 'pass*word', 443], condition: k}",
    "keywords_all": "{k: {'|all': [arn, us-east-1]}, condition: k}",
    "same": "{s: {userIdentity.accountId|fieldref: recipientAccountId}, condition: s}",
    "same_start": "{s: {eventName|fieldref|startswith: userIdentity.userName}, condition: s}",
    "dashes": "{s: {userAgent|windash|contains: ' -a'}, condition: s}",
    "base64": "{s: {requestParameters|base64offset|contains: '#!/bin'}, condition: s}",
    "unlike": "{s: {awsRegion|neq: us-east-1}, condition: s}",
    "empty": "{s: {userAgent: ''}, condition: s}",
    "either_condition": "{a: {eventName: GetObject}, b: {eventName: PutObject}, condition: [a, b]}",
}


def sample_rule(name: str, detection: str) -> str:
    """Returns a rule's document."""
    return (
        f"title: '{name}'\nname: '{name}'\nlogsource: {{product: aws, service: cloudtrail}}\n"
        f"detection: {detection}\n"
    )


def write_samples(folder: Path) -> Path:
    """Writes each rule into a separate file, and returns the folder."""
    folder.mkdir(exist_ok=True)
    for name, detection in DETECTIONS.items():
        (folder / f"{name}.yml").write_text(sample_rule(name, detection))
    return folder
