"""Policies from thousands of varied calls, some of them denied, tested on the same calls.

moto decides by the action for all services, by the resource for S3. `World` holds the
permissions of each call on AWS, from the Service Authorization Reference. OPENTRAIL_TEST_CALLS sets
the number of calls.
"""

from __future__ import annotations

import itertools
import json
import os
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from botocore.exceptions import ClientError

from opentrail.core.policies import AccessRequest, Caller, Policy, PolicyKind, decide, parse_policy
from tests.live.processes import (
    TIMEOUT_SECONDS,
    Opentrail,
    moto_server,
    opentrail_server,
    unthrottled,
)

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.campaign]

CALLS = int(os.environ.get("OPENTRAIL_TEST_CALLS", "2000"))
ACCOUNT, REGION = "123456789012", "us-east-1"
TRUST = json.dumps({"Statement": {"Effect": "Allow", "Principal": {"AWS": "*"}, "Action": "sts:*"}})


#: Actions that a call needs, with their ARNs.
Needs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a boto3 client, and its permissions."""

    service: str
    method: str
    arguments: dict[str, Any]
    needs: Needs


@dataclass(slots=True)
class Principal:
    """A principal, its policy, and the outcomes of its calls."""

    arn: str
    policy: dict[str, Any]
    access: dict[str, str] = field(default_factory=dict)
    allowed: list[Call] = field(default_factory=list)
    denied: list[Call] = field(default_factory=list)
    failed: int = 0


def arn(service: str, name: str) -> str:
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{name}"


def iam(name: str) -> str:
    return f"arn:aws:iam::{ACCOUNT}:{name}"


def allow(actions: Sequence[str] | str, resources: Any = "*", effect: str = "Allow") -> Any:
    return {"Effect": effect, "Action": actions, "Resource": resources}


def deny(actions: Sequence[str] | str, resources: Any = "*") -> Any:
    return allow(actions, resources, "Deny")


BUCKETS = ["wages", "wages-2026", "site.example.com"]
KEYS = ["in/1.csv", "in/2.csv", "in/3 a+b.csv", "in/a*?.csv", "in/ä:${aws:username}"]
TABLES, QUEUES, TOPICS = ["Orders", "Orders-old", "People"], ["jobs", "jobs.fifo"], ["news", "fire"]
USERS, ROLES = ["mia", "mia+x", "noa@example.com"], ["Batch", "Batch-2"]
FUNCTIONS = ["resize", "resize-2"]
FUNCTION = {"Runtime": "python3.13", "Handler": "a.b", "Code": {"ZipFile": b"a"}}
PARAMETERS, SECRETS = ["flat", "/app/db/host", "/app/db/port"], ["db", "db/main"]

READ = (
    "s3",
    "iam",
    "dynamodb",
    "sqs",
    "sns",
    "kms",
    "lambda",
    "ec2",
    "sts",
    "secretsmanager",
    "ssm",
)
PRINCIPALS = {
    "user/ada": [allow(["s3:*", "dynamodb:*", "kms:*"])],
    "user/bob": [
        allow("s3:*", ["arn:aws:s3:::wages*", "arn:aws:s3:::site.example.com/in/*"]),
        allow(["sqs:*", "sns:*", "sts:*", "ec2:Describe*"]),
    ],
    "user/cleo": [
        allow("*"),
        deny(["iam:Create*", "kms:Encrypt", "s3:DeleteObject", "ssm:Put*"]),
        deny("s3:*Object", "arn:aws:s3:::wages*/in/2.csv"),
    ],
    "user/dan": [
        allow(["lambda:*", "secretsmanager:*", "ssm:*", "iam:*"]),
        deny("secretsmanager:GetSecretValue"),
    ],
    "user/eve": [allow(["s3:PutObject*", "s3:GetObject"], "arn:aws:s3:::wages/in/*")],
    "user/none": [deny("*")],
    "role/worker": [
        allow(["ec2:*", "sqs:Send*", "dynamodb:*Item*", "sts:*"]),
        allow(["s3:Get*", "s3:List*", "s3:Head*"]),
    ],
    "role/reader": [
        allow([f"{service}:{verb}*" for service in READ for verb in ("Get", "List", "Describe")]),
        allow(["dynamodb:BatchGet*", "s3:Head*"]),
    ],
}


class World:
    """The resources of the calls, made by the administrator."""

    def __init__(self, server: Opentrail) -> None:
        admin = server.boto
        for bucket in BUCKETS:
            admin("s3").create_bucket(Bucket=bucket)
            for key in KEYS:
                admin("s3").put_object(Bucket=bucket, Key=key, Body=b"a")
        for table in TABLES:
            index = {
                "IndexName": "by-day",
                "KeySchema": [{"AttributeName": "id", "KeyType": "HASH"}],
                "Projection": {"ProjectionType": "ALL"},
            }
            admin("dynamodb").create_table(
                TableName=table,
                KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
                AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
                BillingMode="PAY_PER_REQUEST",
                GlobalSecondaryIndexes=[index],
            )
        fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
        self.urls = {
            name: admin("sqs").create_queue(
                QueueName=name, Attributes=fifo if name.endswith("fifo") else {}
            )["QueueUrl"]
            for name in QUEUES
        }
        for topic in TOPICS:
            admin("sns").create_topic(Name=topic)
        self.keys = [admin("kms").create_key()["KeyMetadata"]["Arn"] for _ in range(3)]
        self.ciphertexts = {
            key: admin("kms").encrypt(KeyId=key, Plaintext=b"a")["CiphertextBlob"]
            for key in self.keys
        }
        for user in USERS:
            admin("iam").create_user(UserName=user)
        for role in ROLES:
            admin("iam").create_role(RoleName=role, AssumeRolePolicyDocument=TRUST)
        for function in FUNCTIONS:
            role_arn = iam(f"role/{ROLES[0]}")
            admin("lambda").create_function(FunctionName=function, Role=role_arn, **FUNCTION)
        admin("iam").create_group(GroupName="staff")
        self.policy = admin("iam").create_policy(
            PolicyName="look",
            PolicyDocument=json.dumps(
                {"Version": "2012-10-17", "Statement": [allow("s3:GetObject")]}
            ),
        )["Policy"]["Arn"]
        for parameter in PARAMETERS:
            admin("ssm").put_parameter(Name=parameter, Value="a", Type="String")
        self.secrets = {
            name: admin("secretsmanager").create_secret(Name=name, SecretString="a")["ARN"]
            for name in SECRETS
        }
        started = admin("ec2").run_instances(ImageId="ami-12c6146b", MinCount=3, MaxCount=3)
        self.instances = [each["InstanceId"] for each in started["Instances"]]
        self.group = admin("ec2").create_security_group(GroupName="web", Description="a")["GroupId"]
        self.numbers = itertools.count()

    def calls(self, random: Random) -> Iterator[Call]:
        """Yields calls endlessly."""
        while True:
            drawn = [*self._s3(random), *self._iam(random), *self._data(random)]
            drawn += [*self._messages(random), *self._keys(random), *self._settings(random)]
            drawn += self._machines(random)
            yield from random.sample(drawn, 25)

    def new_name(self) -> str:
        return f"new-{next(self.numbers)}"

    def _s3(self, random: Random) -> Iterator[Call]:
        def call(method: str, on: str, *actions: str, **arguments: Any) -> Call:
            needs: Needs = tuple((f"s3:{action}", on) for action in actions)
            return Call("s3", method, arguments, needs)

        name, key = random.choice(BUCKETS), random.choice(KEYS)
        at, bucket, thing = {"Bucket": name, "Key": key}, f"arn:aws:s3:::{name}", ""
        thing = f"{bucket}/{key}"
        yield call("put_object", thing, "PutObject", **at, Body=b"b")
        acl = {"ACL": "private", "Tagging": "a=b"}
        needed = ("PutObject", "PutObjectAcl", "PutObjectTagging")
        yield call("put_object", thing, *needed, **at, **acl)
        yield call("get_object", thing, "GetObject", **at)
        yield call("head_object", thing, "GetObject", **at)
        yield call("get_object_tagging", thing, "GetObjectTagging", **at)
        yield call("get_object_acl", thing, "GetObjectAcl", **at)
        tags = {"TagSet": [{"Key": "a", "Value": "b"}]}
        yield call("put_object_tagging", thing, "PutObjectTagging", **at, Tagging=tags)
        yield call("create_multipart_upload", thing, "PutObject", **at)
        yield call("delete_object", f"{bucket}/in/gone", "DeleteObject", Bucket=name, Key="in/gone")
        yield call("list_objects", bucket, "ListBucket", Bucket=name)
        yield call("list_objects_v2", bucket, "ListBucket", Bucket=name, Prefix="in/")
        yield call("list_object_versions", bucket, "ListBucketVersions", Bucket=name)
        yield call("list_multipart_uploads", bucket, "ListBucketMultipartUploads", Bucket=name)
        yield call("head_bucket", bucket, "ListBucket", Bucket=name)
        yield call("get_bucket_location", bucket, "GetBucketLocation", Bucket=name)
        yield call("get_bucket_acl", bucket, "GetBucketAcl", Bucket=name)
        yield call("get_bucket_versioning", bucket, "GetBucketVersioning", Bucket=name)
        yield call("put_bucket_tagging", bucket, "PutBucketTagging", Bucket=name, Tagging=tags)
        yield call("get_bucket_encryption", bucket, "GetEncryptionConfiguration", Bucket=name)
        yield call("list_buckets", "*", "ListAllMyBuckets")
        source = {"Bucket": "wages", "Key": "in/1.csv"}  # moto does not ask who may read it
        copied = (("s3:GetObject", "arn:aws:s3:::wages/in/1.csv"),)
        needs = (("s3:PutObject", f"{bucket}/in/copy"), *copied)
        yield Call(
            "s3", "copy_object", {"Bucket": name, "Key": "in/copy", "CopySource": source}, needs
        )

    def _iam(self, random: Random) -> Iterator[Call]:
        def call(method: str, on: str, *actions: str, **arguments: Any) -> Call:
            return Call("iam", method, arguments, tuple((action, on) for action in actions))

        user, role = random.choice(USERS), random.choice(ROLES)
        one, on_user, on_role = {"UserName": user}, iam(f"user/{user}"), iam(f"role/{role}")
        attached = {"PolicyArn": self.policy}
        tags = [{"Key": "a", "Value": "b"}]
        new = self.new_name()
        yield call("get_user", on_user, "iam:GetUser", **one)
        yield call("list_access_keys", on_user, "iam:ListAccessKeys", **one)
        yield call("list_user_policies", on_user, "iam:ListUserPolicies", **one)
        yield call("list_groups_for_user", on_user, "iam:ListGroupsForUser", **one)
        yield call("tag_user", on_user, "iam:TagUser", **one, Tags=tags)
        yield call("attach_user_policy", on_user, "iam:AttachUserPolicy", **one, **attached)
        yield call("create_user", iam(f"user/{new}"), "iam:CreateUser", UserName=new)
        yield call("create_role", iam(f"role/{new}"), "iam:CreateRole", RoleName=new,
                   AssumeRolePolicyDocument=TRUST)  # fmt: skip
        yield call("get_role", on_role, "iam:GetRole", RoleName=role)
        yield call("attach_role_policy", on_role, "iam:AttachRolePolicy", RoleName=role, **attached)
        yield call("list_attached_role_policies", on_role, "iam:ListAttachedRolePolicies",
                   RoleName=role)  # fmt: skip
        on_group = iam("group/staff")
        yield call("add_user_to_group", on_group, "iam:AddUserToGroup", GroupName="staff", **one)
        yield call("get_group", on_group, "iam:GetGroup", GroupName="staff")
        yield call("get_policy", self.policy, "iam:GetPolicy", **attached)
        yield call("list_users", "*", "iam:ListUsers")
        yield call("list_roles", "*", "iam:ListRoles")
        yield call("get_account_summary", "*", "iam:GetAccountSummary")
        yield Call("sts", "get_caller_identity", {}, ())
        session = {"RoleArn": on_role, "RoleSessionName": "agent+x"}
        yield Call("sts", "assume_role", session, (("sts:AssumeRole", on_role),))
        more = {**session, "SourceIdentity": "mia", "Tags": tags}
        actions = ("sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity")
        yield Call("sts", "assume_role", more, tuple((action, on_role) for action in actions))

    def _data(self, random: Random) -> Iterator[Call]:
        def call(method: str, on: str, *actions: str, **arguments: Any) -> Call:
            needs: Needs = tuple((f"dynamodb:{action}", on) for action in actions)
            return Call("dynamodb", method, arguments, needs)

        table, key = random.choice(TABLES), {"id": {"S": str(random.randrange(9))}}
        on, at = arn("dynamodb", f"table/{table}"), {"TableName": table}
        yield call("put_item", on, "PutItem", **at, Item=key)
        yield call("get_item", on, "GetItem", **at, Key=key)
        update = {"UpdateExpression": "SET a = :a", "ExpressionAttributeValues": {":a": key["id"]}}
        yield call("update_item", on, "UpdateItem", **at, Key=key, **update)
        yield call("delete_item", on, "DeleteItem", **at, Key=key)
        yield call("scan", on, "Scan", **at)
        condition: dict[str, Any] = {
            "KeyConditionExpression": "id = :a",
            "ExpressionAttributeValues": {":a": key["id"]},
        }
        yield call("query", on, "Query", **at, **condition)
        index = {"IndexName": "by-day", **condition}
        yield call("query", f"{on}/index/by-day", "Query", **at, **index)
        yield call("describe_table", on, "DescribeTable", **at)
        yield call("list_tables", "*", "ListTables")
        tags = [{"Key": "a", "Value": "b"}]
        yield call("tag_resource", on, "TagResource", ResourceArn=on, Tags=tags)
        yield call("list_tags_of_resource", on, "ListTagsOfResource", ResourceArn=on)
        other = random.choice(TABLES)
        both = dict.fromkeys((table, other))
        ons = [arn("dynamodb", f"table/{name}") for name in both]
        puts = {name: [{"PutRequest": {"Item": key}}] for name in both}
        needs = tuple(("dynamodb:BatchWriteItem", each) for each in ons)
        yield Call("dynamodb", "batch_write_item", {"RequestItems": puts}, needs)
        gets = {name: {"Keys": [key]} for name in both}
        needs = tuple(("dynamodb:BatchGetItem", each) for each in ons)
        yield Call("dynamodb", "batch_get_item", {"RequestItems": gets}, needs)
        items = [
            {"Put": {**at, "Item": key}},
            {"Delete": {"TableName": "People", "Key": {"id": {"S": "x"}}}},
        ]
        needs = (
            ("dynamodb:PutItem", on),
            ("dynamodb:DeleteItem", arn("dynamodb", "table/People")),
        )
        yield Call("dynamodb", "transact_write_items", {"TransactItems": items}, needs)
        statement = f"SELECT * FROM \"{table}\" WHERE id = 'a'"  # noqa: S608 - PartiQL
        yield call("execute_statement", on, "PartiQLSelect", Statement=statement)

    def _messages(self, random: Random) -> Iterator[Call]:
        queue, topic = random.choice(QUEUES), random.choice(TOPICS)
        on, of_topic = arn("sqs", queue), arn("sns", topic)
        url = {"QueueUrl": self.urls[queue]}
        group = {"MessageGroupId": "a"} if queue.endswith("fifo") else {}
        entry = {"Id": "a", "MessageBody": "a", **group}
        for method, action, more in (
            ("send_message", "SendMessage", {"MessageBody": "a", **group}),
            ("send_message_batch", "SendMessage", {"Entries": [entry]}),
            ("receive_message", "ReceiveMessage", {"MaxNumberOfMessages": 1}),
            ("get_queue_attributes", "GetQueueAttributes", {"AttributeNames": ["All"]}),
            ("tag_queue", "TagQueue", {"Tags": {"a": "b"}}),
        ):
            yield Call("sqs", method, {**url, **more}, ((f"sqs:{action}", on),))
        named = {"QueueName": queue}
        yield Call("sqs", "get_queue_url", named, (("sqs:GetQueueUrl", on),))
        new = self.new_name()
        needs: Needs = (("sqs:CreateQueue", arn("sqs", new)),)
        yield Call("sqs", "create_queue", {"QueueName": new}, needs)
        message = {"Id": "a", "Message": "a"}
        for method, action, more in (
            ("publish", "Publish", {"Message": "a"}),
            ("publish_batch", "Publish", {"PublishBatchRequestEntries": [message]}),
            ("get_topic_attributes", "GetTopicAttributes", {}),
            ("subscribe", "Subscribe", {"Protocol": "sqs", "Endpoint": arn("sqs", "jobs")}),
            ("list_subscriptions_by_topic", "ListSubscriptionsByTopic", {}),
        ):
            arguments = {"TopicArn": of_topic, **more}
            yield Call("sns", method, arguments, ((f"sns:{action}", of_topic),))
        yield Call("sns", "list_topics", {}, (("sns:ListTopics", "*"),))
        yield Call("sns", "create_topic", {"Name": new}, (("sns:CreateTopic", arn("sns", new)),))

    def _keys(self, random: Random) -> Iterator[Call]:
        key, other = random.choice(self.keys), random.choice(self.keys)
        at: dict[str, Any] = {"KeyId": random.choice([key, key.rpartition("/")[2]])}
        tags = [{"TagKey": "a", "TagValue": "b"}]
        for method, action, more in (
            ("encrypt", "Encrypt", {"Plaintext": b"a"}),
            ("generate_data_key", "GenerateDataKey", {"KeySpec": "AES_256"}),
            ("describe_key", "DescribeKey", {}),
            ("get_key_policy", "GetKeyPolicy", {"PolicyName": "default"}),
            ("tag_resource", "TagResource", {"Tags": tags}),
        ):
            yield Call("kms", method, {**at, **more}, ((f"kms:{action}", key),))
        blob = {"CiphertextBlob": self.ciphertexts[key]}
        yield Call("kms", "decrypt", blob, (("kms:Decrypt", key),))
        needs: Needs = (
            ("kms:ReEncryptFrom", key),
            ("kms:ReEncryptTo", other),
        )
        yield Call("kms", "re_encrypt", {**blob, "DestinationKeyId": other}, needs)
        yield Call("kms", "list_keys", {}, (("kms:ListKeys", "*"),))
        yield Call("kms", "create_key", {}, (("kms:CreateKey", "*"),))
        alias = f"alias/{self.new_name()}"
        needs = (("kms:CreateAlias", arn("kms", alias)), ("kms:CreateAlias", key))
        arguments = {"AliasName": alias, "TargetKeyId": key.rpartition("/")[2]}
        yield Call("kms", "create_alias", arguments, needs)

    def _settings(self, random: Random) -> Iterator[Call]:
        name = random.choice(PARAMETERS)
        on = arn("ssm", f"parameter/{name.lstrip('/')}")
        for method, action, more in (
            ("get_parameter", "GetParameter", {}),
            ("put_parameter", "PutParameter", {"Value": "b", "Type": "String", "Overwrite": True}),
        ):
            yield Call("ssm", method, {"Name": name, **more}, ((f"ssm:{action}", on),))
        needs: Needs = tuple(
            ("ssm:GetParameters", arn("ssm", f"parameter/{each.lstrip('/')}"))
            for each in PARAMETERS
        )
        yield Call("ssm", "get_parameters", {"Names": PARAMETERS}, needs)
        needs = (("ssm:GetParametersByPath", arn("ssm", "parameter/app/db")),)
        yield Call("ssm", "get_parameters_by_path", {"Path": "/app/db"}, needs)
        yield Call("ssm", "describe_parameters", {}, (("ssm:DescribeParameters", "*"),))
        secret = random.choice(SECRETS)
        on = self.secrets[secret]
        named: dict[str, Any] = {"SecretId": random.choice([secret, on])}
        for method, action, value in (
            ("get_secret_value", "GetSecretValue", {}),
            ("describe_secret", "DescribeSecret", {}),
            ("put_secret_value", "PutSecretValue", {"SecretString": "b"}),
        ):
            needs = ((f"secretsmanager:{action}", on),)
            yield Call("secretsmanager", method, {**named, **value}, needs)
        yield Call("secretsmanager", "list_secrets", {}, (("secretsmanager:ListSecrets", "*"),))

    def _machines(self, random: Random) -> Iterator[Call]:
        instance, new = random.choice(self.instances), self.new_name()
        on = arn("ec2", f"instance/{instance}")
        for method, action in (("start_instances", "Start"), ("stop_instances", "Stop")):
            needs: Needs = ((f"ec2:{action}Instances", on),)
            yield Call("ec2", method, {"InstanceIds": [instance]}, needs)
        yield Call("ec2", "describe_instances", {}, (("ec2:DescribeInstances", "*"),))
        yield Call("ec2", "describe_volumes", {}, (("ec2:DescribeVolumes", "*"),))
        tagged = {"Resources": [instance], "Tags": [{"Key": "a", "Value": "b"}]}
        yield Call("ec2", "create_tags", tagged, (("ec2:CreateTags", on),))
        opened = {"GroupId": self.group, "IpProtocol": "tcp", "CidrIp": "203.0.113.0/24"}
        port = random.randrange(1, 60_000)
        needs = (("ec2:AuthorizeSecurityGroupIngress", arn("ec2", f"security-group/{self.group}")),)
        yield Call("ec2", "authorize_security_group_ingress",
                   {**opened, "FromPort": port, "ToPort": port}, needs)  # fmt: skip
        started = {"ImageId": "ami-12c6146b", "MinCount": 1, "MaxCount": 1}
        needs = (
            ("ec2:RunInstances", f"arn:aws:ec2:{REGION}::image/ami-12c6146b"),
            ("ec2:RunInstances", arn("ec2", "instance/i-0123456789abcdef0")),
        )
        yield Call("ec2", "run_instances", started, needs)
        role = iam(f"role/{random.choice(ROLES)}")
        made = {"FunctionName": new, "Role": role, **FUNCTION}
        needs = (
            ("lambda:CreateFunction", arn("lambda", f"function:{new}")),
            ("iam:PassRole", role),
        )
        yield Call("lambda", "create_function", made, needs)
        named = {"FunctionName": random.choice(FUNCTIONS)}
        function = arn("lambda", f"function:{named['FunctionName']}")
        needs = (("lambda:PublishVersion", function),)
        yield Call("lambda", "publish_version", named, needs)
        given = {**named, "StatementId": new, "Principal": "s3.amazonaws.com", "Action": "lambda:*"}
        yield Call("lambda", "add_permission", given, (("lambda:AddPermission", function),))
        needs = (("lambda:UpdateFunctionConfiguration", function), ("iam:PassRole", role))
        changed = {**named, "Role": role}
        yield Call("lambda", "update_function_configuration", changed, needs)


#: Codes of calls that moto denied; the status where its errors have another format.
DENIED = ("AccessDenied", "AccessDeniedException", "403")


def made_callers(server: Opentrail) -> list[Principal]:
    """Makes the principals with their policies."""
    client, callers = server.boto("iam"), []
    for principal, statements in PRINCIPALS.items():
        kind, _, name = principal.partition("/")
        caller = Principal(iam(principal), {"Version": "2012-10-17", "Statement": statements})
        policy = {"PolicyName": "all", "PolicyDocument": json.dumps(caller.policy)}
        if kind == "user":
            client.create_user(UserName=name)
            key = client.create_access_key(UserName=name)["AccessKey"]
            caller.access = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
            client.put_user_policy(UserName=name, **policy)
        else:
            client.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
            client.put_role_policy(RoleName=name, **policy)
            session = server.boto("sts").assume_role(RoleArn=caller.arn, RoleSessionName="night")
            key = session["Credentials"]
            caller.access = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
            caller.access["token"] = key["SessionToken"]
        callers.append(caller)
    return callers


def make_calls(server: Opentrail, world: World, caller: Principal, count: int) -> None:
    """Makes calls as a principal, and remembers their outcomes."""
    clients: dict[str, Any] = {}
    for call in itertools.islice(world.calls(Random(caller.arn)), count):
        if call.service not in clients:
            clients[call.service] = server.boto(call.service, **caller.access)
        method = getattr(clients[call.service], call.method)
        error = unthrottled(partial(error_of, method, call), str)
        if error is None:
            caller.allowed.append(call)
        elif error.response["Error"]["Code"] in DENIED:
            caller.denied.append(call)
        else:
            caller.failed += 1


def error_of(method: Callable[..., object], call: Call) -> ClientError | None:
    """Makes a call, and returns its error, if any."""
    try:
        method(**call.arguments)
    except ClientError as error:
        return error
    return None


def is_allowed(policies: Sequence[Policy], caller: Principal, call: Call) -> bool:
    """Returns whether AWS would allow a call with these policies."""
    who = Caller(ACCOUNT, caller.arn)
    context = {"iam:passedtoservice": (f"{call.service}.amazonaws.com",)}
    return all(
        decide(AccessRequest(who, action, on, ACCOUNT, context), policies, None).is_allowed
        for action, on in call.needs
    )


def test_generated_policies_repeat_the_decisions_of_moto(tmp_path: Path) -> None:
    with (
        moto_server(ends=True) as upstream,
        opentrail_server(tmp_path / "data", "--upstream", upstream) as server,
    ):
        world = World(server)
        callers = made_callers(server)
        enforce = f"{upstream}/moto-api/reset-auth"  # from the first call on
        moto = urllib.request.Request(enforce, b"0", {"Content-Type": "text/plain"})  # noqa: S310
        with urllib.request.urlopen(moto, timeout=TIMEOUT_SECONDS):  # noqa: S310 - of this machine
            pass
        with ThreadPoolExecutor(len(callers)) as pool:
            count = CALLS // len(callers)
            for done in [
                pool.submit(make_calls, server, world, caller, count) for caller in callers
            ]:
                done.result()
        for caller in callers:
            counts = Counter(
                allowed=len(caller.allowed), denied=len(caller.denied), failed=caller.failed
            )
            # `policy test` agrees with moto about the policy that moto enforced.
            assert_the_same(server, caller, [caller.policy], tmp_path)
            for resources in ("exact", "prefix"):
                flags = ("--json", "--resources", resources)
                made = server.opentrail("policy", "generate", caller.arn, *flags)
                assert made.returncode == 0, (caller.arn, made.stderr, made.stdout)
                answer = json.loads(made.stdout)
                assert Counter(answer["calls"]) == counts
                open_points = [answer[name] for name in ("unverified", "unmapped", "unlimited")]
                assert (answer["refusedByIt"], *open_points) == (0, {}, {}, {})
                assert_the_same(server, caller, answer["policies"], tmp_path)
                agree_with_aws(caller, answer["policies"])
            with_mfa = {"Condition": {"Bool": {"aws:MultiFactorAuthPresent": "true"}}}
            statements = [{**each, **with_mfa} for each in caller.policy["Statement"]]
            document = {**caller.policy, "Statement": statements}
            replayed = replay(server, caller, [document], tmp_path)
            undecided = sum(bool(call.needs) for call in caller.allowed)
            assert replayed["allowedCalls"] == {
                "allowed": len(caller.allowed) - undecided,
                "denied": 0,
                "unknown": undecided,
            }


def replay(
    server: Opentrail, caller: Principal, documents: list[dict[str, Any]], folder: Path
) -> dict[str, Any]:
    """Tests policies on all calls of a principal."""
    file = folder / "policies.json"
    file.write_text(json.dumps(documents))
    tested = server.opentrail("policy", "test", str(file), "--principal", caller.arn, "--json")
    return dict(json.loads(tested.stdout))


def assert_the_same(
    server: Opentrail, caller: Principal, documents: list[dict[str, Any]], folder: Path
) -> None:
    replayed = replay(server, caller, documents, folder)
    assert (replayed["newlyDenied"], replayed["newlyAllowed"], replayed["unknown"]) == ([], [], [])
    assert replayed["allowedCalls"]["allowed"] == len(caller.allowed)
    assert replayed["deniedCalls"]["denied"] == len(caller.denied)


def agree_with_aws(caller: Principal, documents: list[dict[str, Any]]) -> None:
    """Compares policies with the permissions in AWS's documentation."""
    policies = [parse_policy(json.dumps(each), PolicyKind.IDENTITY) for each in documents]
    refused = [call for call in caller.allowed if not is_allowed(policies, caller, call)]
    assert not refused, refused[:3]
    widened = [call for call in caller.denied if is_allowed(policies, caller, call)]
    assert not widened, widened[:3]
