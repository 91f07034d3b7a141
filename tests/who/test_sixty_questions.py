"""Sixty questions about one company: renames, former lives, roles across accounts, any verb.

The calls are made with boto3 against moto and recorded by the hook in its process; times and the
copies of calls that AWS writes for a second account are added.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from opentrail.capture.in_process.hooks import BotocoreHook
from opentrail.core.event import format_time
from opentrail.core.identity import Identity
from tests.asking import asked
from tests.factories import ACCOUNT, MOMENT, REGION, an_assumed_role, an_identity
from tests.fakes import asynchronous

pytestmark = pytest.mark.live

OTHER = "210987654321"
QUESTIONS = Path(__file__).parent.parent / "data" / "who-questions.txt"


class Recorder:
    """Stores the hook's records, a minute apart, and knows the owners of access keys."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self._identities: dict[str, Identity] = {}

    def ship(self, record: bytes) -> None:
        moment = MOMENT + timedelta(minutes=len(self.records))
        self.records.append({**json.loads(record), "eventTime": format_time(moment)})

    def identity(self, access_key_id: str) -> Identity:
        return self._identities[access_key_id]

    def user(self, name: str) -> boto3.session.Session:
        """Returns the session of an IAM user of the first account."""
        key = f"AKIA{name.upper():X<16}"
        self._identities[key] = an_identity(name, ACCOUNT, key)
        return boto3.session.Session(key, "secret", region_name=REGION)

    def assume(
        self, caller: boto3.session.Session, role: str, session: str, account: str = ACCOUNT
    ) -> boto3.session.Session:
        """Returns the session of a role; the hook records the call in both accounts."""
        arn = f"arn:aws:iam::{account}:role/{role}"
        answer = caller.client("sts").assume_role(RoleArn=arn, RoleSessionName=session)
        credentials = answer["Credentials"]
        key = credentials["AccessKeyId"]
        known = {**an_assumed_role(role, session, account), "accessKeyId": key}
        self._identities[key] = Identity(key, account, known)
        return boto3.session.Session(
            key, credentials["SecretAccessKey"], credentials["SessionToken"], region_name=REGION
        )


def run_company(recorder: Recorder) -> None:
    """Makes the calls of the company, part by part."""
    ann, bob, eve = (recorder.user(name) for name in ("Ann", "Bob", "Eve"))
    _manage_users(ann, bob, eve)
    _manage_storage(ann, bob)
    _manage_messages(ann, bob)
    _manage_services(ann, bob)
    _manage_databases(ann, bob)
    _manage_machines(ann, bob)
    _work_as_roles(recorder, ann, bob)


def _manage_users(
    ann: boto3.session.Session, bob: boto3.session.Session, eve: boto3.session.Session
) -> None:
    iam = ann.client("iam")
    # Mary becomes Maria, and another Mary is created.
    iam.create_user(UserName="Mary")
    bob.client("iam").update_user(UserName="Mary", NewUserName="Maria")
    iam.tag_user(UserName="Maria", Tags=[{"Key": "team", "Value": "web"}])
    eve.client("iam").create_user(UserName="Mary")
    # Kim is deleted and created again, twice.
    for session in (ann, bob, eve):
        session.client("iam").create_user(UserName="Kim")
        if session is not eve:
            session.client("iam").delete_user(UserName="Kim")
    # Al is renamed to the name of a deleted user, and deleted under it.
    iam.create_user(UserName="Alex")
    iam.delete_user(UserName="Alex")
    bob.client("iam").create_user(UserName="Al")
    bob.client("iam").update_user(UserName="Al", NewUserName="Alex")
    eve.client("iam").delete_user(UserName="Alex")
    iam.create_group(GroupName="devs")
    bob.client("iam").update_group(GroupName="devs", NewGroupName="engineers")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    for role in ("Deploy", "Worker"):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=trust, Path="/service/")
    policy = json.dumps(
        {
            "Version": "2012-10-17",
            "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
        }
    )
    for session, role in ((ann, "Deploy"), (bob, "Worker"), (eve, "Deploy")):
        session.client("iam").put_role_policy(
            RoleName=role, PolicyName="storage", PolicyDocument=policy
        )
    iam.create_policy(PolicyName="audit", PolicyDocument=policy)
    iam.upload_server_certificate(
        ServerCertificateName="tls", CertificateBody="body", PrivateKey="key"
    )
    bob.client("iam").attach_role_policy(
        RoleName="Worker", PolicyArn=f"arn:aws:iam::{ACCOUNT}:policy/audit"
    )


def _manage_storage(ann: boto3.session.Session, bob: boto3.session.Session) -> None:
    s3, of_bob = ann.client("s3"), bob.client("s3")
    s3.create_bucket(Bucket="shop-logs")
    of_bob.create_bucket(Bucket="old-logs")
    of_bob.delete_bucket(Bucket="old-logs")
    s3.create_bucket(Bucket="old-logs")
    policy = json.dumps({"Version": "2012-10-17", "Statement": []})
    of_bob.put_bucket_policy(Bucket="shop-logs", Policy=policy)
    s3.put_object(Bucket="shop-logs", Key="in/a.csv", Body=b"1")
    of_bob.put_object(Bucket="shop-logs", Key="in/a.csv", Body=b"2")
    of_bob.put_object(Bucket="old-logs", Key="in/a.csv", Body=b"3")
    s3.copy_object(Bucket="shop-logs", Key="copy.csv", CopySource="shop-logs/in/a.csv")
    of_bob.delete_object(Bucket="shop-logs", Key="copy.csv")
    of_bob.put_object(Bucket="shop-logs", Key="copy.csv", Body=b"4")


def _manage_messages(ann: boto3.session.Session, bob: boto3.session.Session) -> None:
    topic = ann.client("sns").create_topic(Name="news")["TopicArn"]
    bob.client("sns").create_topic(Name="news")
    bob.client("sns").subscribe(TopicArn=topic, Protocol="email", Endpoint="a@example.com")
    queue = bob.client("sqs").create_queue(QueueName="jobs")["QueueUrl"]
    ann.client("sqs").delete_queue(QueueUrl=queue)
    ann.client("sqs").create_queue(QueueName="jobs")
    ann.client("events").put_rule(Name="nightly", ScheduleExpression="rate(1 day)")
    bob.client("events").put_rule(Name="nightly", ScheduleExpression="rate(2 days)")
    ann.client("cloudwatch").put_dashboard(DashboardName="wall", DashboardBody='{"widgets": []}')
    bob.client("cloudwatch").put_dashboard(DashboardName="wall", DashboardBody='{"widgets": []}')
    for session, threshold in ((ann, 80), (bob, 90)):
        session.client("cloudwatch").put_metric_alarm(
            AlarmName="cpu",
            Namespace="AWS/EC2",
            MetricName="CPUUtilization",
            Statistic="Average",
            Period=60,
            EvaluationPeriods=1,
            Threshold=threshold,
            ComparisonOperator="GreaterThanThreshold",
        )
    ann.client("logs").create_log_group(logGroupName="/app/web")
    bob.client("logs").put_retention_policy(logGroupName="/app/web", retentionInDays=7)
    ann.client("kinesis").create_stream(StreamName="clicks", ShardCount=1)


def _manage_services(ann: boto3.session.Session, bob: boto3.session.Session) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as code:
        code.writestr("main.py", "def run(event, context): ...")
    ann.client("lambda").create_function(
        FunctionName="resize",
        Runtime="python3.11",
        Role=f"arn:aws:iam::{ACCOUNT}:role/service/Worker",
        Handler="main.run",
        Code={"ZipFile": archive.getvalue()},
    )
    bob.client("lambda").publish_version(FunctionName="resize")
    ssm = ann.client("ssm")
    ssm.put_parameter(Name="/shop/url", Value="x", Type="String")
    bob.client("ssm").put_parameter(Name="/shop/url", Value="y", Type="String", Overwrite=True)
    ssm.delete_parameter(Name="/shop/url")
    bob.client("ssm").put_parameter(Name="/shop/url", Value="z", Type="String")
    secrets = bob.client("secretsmanager")
    secrets.create_secret(Name="prod/db", SecretString="x")
    secrets.delete_secret(SecretId="prod/db")
    ann.client("secretsmanager").restore_secret(SecretId="prod/db")
    ann.client("acm").request_certificate(DomainName="shop.example.com")
    ecs = ann.client("ecs")
    ecs.create_cluster(clusterName="prod")
    for session in (bob, ann):
        session.client("ecs").register_task_definition(
            family="web", containerDefinitions=[{"name": "web", "image": "web", "memory": 64}]
        )
    bob.client("ecs").create_service(
        cluster="prod", serviceName="front", taskDefinition="web", desiredCount=1
    )
    ann.client("kms").create_key(Description="main")
    ann.client("ecr").create_repository(repositoryName="shop")
    bob.client("stepfunctions").create_state_machine(
        name="checkout", definition="{}", roleArn=f"arn:aws:iam::{ACCOUNT}:role/service/Worker"
    )


def _manage_databases(ann: boto3.session.Session, bob: boto3.session.Session) -> None:
    ann.client("dynamodb").create_table(
        TableName="orders",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    rds = bob.client("rds")
    instance = {"DBInstanceClass": "db.t3.micro", "Engine": "postgres", "AllocatedStorage": 10}
    rds.create_db_instance(
        DBInstanceIdentifier="shop", MasterUsername="u", MasterUserPassword="p" * 8, **instance
    )
    ann.client("rds").modify_db_instance(
        DBInstanceIdentifier="shop", NewDBInstanceIdentifier="shop-old", ApplyImmediately=True
    )
    ann.client("rds").create_db_snapshot(
        DBInstanceIdentifier="shop-old", DBSnapshotIdentifier="daily"
    )
    rds.restore_db_instance_from_db_snapshot(
        DBInstanceIdentifier="restored", DBSnapshotIdentifier="daily"
    )
    ann.client("redshift").create_cluster(
        ClusterIdentifier="lake",
        NodeType="ra3.large",
        MasterUsername="u",
        MasterUserPassword="Passw0rd",
    )
    bob.client("redshift").modify_cluster(ClusterIdentifier="lake", NewClusterIdentifier="sea")


def _manage_machines(ann: boto3.session.Session, bob: boto3.session.Session) -> None:
    ec2 = ann.client("ec2")
    image = ec2.describe_images(MaxResults=5)["Images"][0]["ImageId"]
    tags = [{"Key": "Name", "Value": "web-1"}]
    ec2.run_instances(
        ImageId=image,
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
    )
    vpc = bob.client("ec2").create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    ec2.create_tags(Resources=[vpc], Tags=[{"Key": "Name", "Value": "main-net"}])
    for session in (ann, bob):
        group = session.client("ec2").create_security_group(
            GroupName="front", Description="x", VpcId=vpc
        )["GroupId"]
        session.client("ec2").delete_security_group(GroupId=group)


def _work_as_roles(
    recorder: Recorder, ann: boto3.session.Session, bob: boto3.session.Session
) -> None:
    deploy = recorder.assume(ann, "Deploy", "release-7")
    deploy.client("sns").create_topic(Name="releases")
    worker = recorder.assume(deploy, "Worker", "step-2")
    worker.client("sqs").create_queue(QueueName="steps")
    audit = recorder.assume(bob, "Audit", "bob", OTHER)
    audit.client("s3").create_bucket(Bucket="audit-copies")
    audit.client("iam").create_user(UserName="inspector")
    audit.client("ssm").put_parameter(Name="/audit/on", Value="1", Type="String")


def questions() -> Iterator[tuple[str, list[str]]]:
    """Yields the questions of the file, each with the lines of `summary_of` below it."""
    expected: list[str] = []
    for line in reversed(QUESTIONS.read_text().splitlines()):
        if line.startswith(" "):
            expected.insert(0, line.strip())
        else:
            yield line, expected
            expected = []


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    """Returns the records of the company, oldest first."""
    recorder = Recorder()
    hook = BotocoreHook(recorder)
    hook.attach_everywhere()
    try:
        with mock_aws():
            run_company(recorder)
    finally:
        hook.detach_everywhere()
    return recorder.records


def ids_in(records: list[dict[str, Any]]) -> dict[str, str]:
    """Returns moto's numbers, by the placeholders of the questions."""
    answers: dict[str, list[dict[str, Any]]] = {}
    for record in records:
        answers.setdefault(record["eventName"], []).append(record["responseElements"])
    groups = answers["CreateSecurityGroup"]
    return {
        "{account}": ACCOUNT,
        "{other account}": OTHER,
        "{place}": f"{REGION}:{ACCOUNT}",
        "{access key}": answers["AssumeRole"][0]["credentials"]["accessKeyId"],
        "{certificate}": answers["RequestCertificate"][0]["certificateArn"],
        "{group}": groups[0]["groupId"],
        "{second group}": groups[1]["groupId"],
        "{instance}": answers["RunInstances"][0]["instancesSet"]["items"][0]["instanceId"],
        "{kms key}": answers["CreateKey"][0]["keyMetadata"]["keyId"],
        "{secret}": answers["CreateSecret"][0]["arn"],
        "{vpc}": answers["CreateVpc"][0]["vpc"]["vpcId"],
    }


def summary_of(answer: dict[str, Any]) -> list[str]:
    """Returns a resource's creator and changes, without times and methods."""

    def words(change: dict[str, Any]) -> str:
        text: str = change["sentence"].split(" UTC, ")[1].rpartition(" through ")[0]
        return text.removeprefix("IAM user ")

    created, changed, deleted = (answer[kind] for kind in ("created", "changed", "deleted"))
    lines = [words(created) if created else "unknown"]
    lines += ["no earlier event"] if created and not created["certain"] else []
    lines += [words(renamed) for renamed in answer["renamed"]]
    if changed and words(changed) not in lines:
        lines.append(f"change {changed['times']}: {words(changed)}")
    lines += [words(deleted)] if deleted else []
    for life in answer["former"]:
        ends = [end for end in (life["created"], *life["renamed"], life["deleted"]) if end]
        lines.append(f"before: {', '.join(map(words, ends))}")
    caller = answer["caller"]
    return [*lines, f"behind: {caller['origin']}"] if caller["steps"] else lines


@pytest.mark.parametrize(("question", "expected"), [*questions()])
@asynchronous
async def test_a_question_gets_the_expected_answer(
    records: list[dict[str, Any]], question: str, expected: list[str]
) -> None:
    for placeholder, value in ids_in(records).items():
        question = question.replace(placeholder, value)
        expected = [line.replace(placeholder, value) for line in expected]
    first, *others = map(summary_of, (await asked(question, *records))["answers"])
    also = [line for created, *more in others for line in (f"also: {created}", *more)]
    assert [*first, *also] == expected


def test_the_file_has_sixty_questions() -> None:
    assert len({question for question, _ in questions()}) >= 60
