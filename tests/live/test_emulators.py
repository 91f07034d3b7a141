"""opentrail in front of emulators, with only the flag --upstream."""

from __future__ import annotations

import json
import re
import shlex
import threading
from pathlib import Path
from typing import Any

import botocore.exceptions
import pytest

from benchmarks import emulators
from opentrail.commands.sandbox import ReservedPort, begin_moto, wait_for_moto
from tests.live.ministack import ministack
from tests.live.processes import (
    Opentrail,
    eventually,
    files_in,
    free_port,
    moto_server,
    until_well,
)
from tests.stand_in_emulator import ACCOUNT, StandInEmulator

pytestmark = [pytest.mark.slow, pytest.mark.live]


def serve(folder: Path, url: str, *flags: str, **environment: str) -> Opentrail:
    """Starts opentrail with calls to the upstream allowed, as for a user."""
    server = Opentrail(folder, "--upstream", url, *flags)
    return server.start(OPENTRAIL_UPSTREAM_CHECK="on", **environment)


def tell_the_story(server: Opentrail) -> None:
    """John makes Mary and her key; Mary makes a table and reads it by name and ARN."""
    server.aws("iam", "create-user", "--user-name", "Mary", key="test", secret="test")
    made = server.aws("iam", "create-access-key", "--user-name", "Mary", "--output", "json",
                      key="test", secret="test")  # fmt: skip
    key = json.loads(made)["AccessKey"]
    mary = {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"]}
    table = server.boto("dynamodb", **mary).create_table(
        TableName="orders",
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )["TableDescription"]["TableArn"]
    for name in ("orders", table):
        server.boto("dynamodb", **mary).describe_table(TableName=name)


@pytest.mark.parametrize("recorders", ["1", pytest.param("2", marks=pytest.mark.campaign)])
def test_the_story_in_front_of_ministack(tmp_path: Path, recorders: str) -> None:
    with ministack() as url:
        server = serve(tmp_path / "data", url, "--recorders", recorders)
        try:
            assert f"{url}  MiniStack; it verifies no signatures" in server.output
            assert "by default arn:aws:iam::000000000000:root" in server.output
            tell_the_story(server)
            eventually(lambda: server.count() == 5, "every call has one record")
            records = server.records()
            assert {record["recipientAccountId"] for record in records} == {"000000000000"}
            assert {record["userIdentity"]["type"] for record in records} == {"Root", "IAMUser"}
            said = server.opentrail("who", "Mary")
            assert said.returncode == 0
            assert "the root user of account 000000000000 created IAM user Mary" in said.stdout
            assert "resources are called" not in said.stdout
            assert re.search("IAM user Mary created DynamoDB table orders", said.stdout) is None
            table = server.opentrail("who", "orders").stdout
            assert "IAM user Mary created DynamoDB table orders" in table
            shown = server.opentrail("lookup", "--json").stdout.splitlines()
            assert len(shown) == 5, "the default account is the upstream's"
        finally:
            server.close()


def test_the_story_in_front_of_moto(tmp_path: Path) -> None:
    with moto_server() as url:
        server = serve(tmp_path / "data", url)
        try:
            tell_the_story(server)
            eventually(lambda: server.count() == 5, "every call has one record")
            said = server.opentrail("who", "Mary").stdout
            assert "IAM user moto created IAM user Mary through the AWS CLI" in said
            table = server.opentrail("who", "orders").stdout
            assert "IAM user Mary created DynamoDB table orders" in table
        finally:
            server.close()


def test_an_account_as_key_id_is_that_account(tmp_path: Path) -> None:
    with ministack() as url:
        server = serve(tmp_path / "data", url)
        try:
            server.boto("sqs", key="111122223333", secret="x").create_queue(QueueName="q")
            (record,) = server.records()
            assert record["recipientAccountId"] == "111122223333"
            assert record["userIdentity"]["arn"] == "arn:aws:iam::111122223333:root"
        finally:
            server.close()


def test_command_line_trail_is_in_the_upstreams_account(tmp_path: Path) -> None:
    with ministack() as url:
        server = serve(tmp_path / "data", url)
        try:
            made = server.opentrail(
                "trail", "create", "audit", "--bucket", "logs", "--create-bucket"
            )
            assert made.returncode == 0, made.stderr
            assert "000000000000" in server.opentrail("trail", "list", "--json").stdout
        finally:
            server.close()


def test_upstream_that_starts_after_opentrail_names_its_callers(tmp_path: Path) -> None:
    port = ReservedPort()
    server = serve(tmp_path / "data", f"http://{port.address}")
    try:
        assert "nothing answers yet" in server.output
        moto = begin_moto(port)
        try:
            wait_for_moto(moto)
            eventually(lambda: is_answered(server), "moto answers")
            (named,) = {r["userIdentity"].get("arn") for r in server.records() if ok(r)}
            assert named == "arn:aws:iam::123456789012:user/moto"
        finally:
            moto.stop()
    finally:
        server.close()
        port.release()


def ok(record: Any) -> bool:
    return "errorCode" not in record


def is_answered(server: Opentrail) -> bool:
    try:
        server.boto("sqs", key="test", secret="test").list_queues()
    except botocore.exceptions.ClientError:
        return False
    return True


@pytest.mark.parametrize("own_host", [True, pytest.param(False, marks=pytest.mark.campaign)])
def test_aws_emulator_and_its_restart_under_load(tmp_path: Path, own_host: bool) -> None:
    with moto_server() as url:
        emulator = StandInEmulator(tmp_path, free_port(), url.removeprefix("http://"), own_host)
        emulator.start()
        server = serve(tmp_path / "data", emulator.url, HOME=str(tmp_path))
        try:
            until_well(server)
            assert f"{emulator.url}  AWS Emulator; it accepts only the keys" in server.output
            assert server.process is not None
            assert server.process.stdout is not None
            rest = [server.process.stdout.readline() for _ in range(6)]
            pasted = dict(shlex.split(line)[1].split("=", 1) for line in rest if "export" in line)
            assert pasted["AWS_SHARED_CREDENTIALS_FILE"] == str(
                emulator.folder / "emulator_credentials"
            )
            run_load_over_restarts(server, emulator)
        finally:
            server.close()
            emulator.stop()


def run_load_over_restarts(server: Opentrail, emulator: StandInEmulator) -> None:
    """Calls from four threads with the first run's key, while the emulator restarts twice."""
    key, secret = emulator.key_id, emulator.secret
    outcomes: list[str] = []
    stop = threading.Event()

    def load(number: int) -> None:
        sqs, count = server.boto("sqs", key=key, secret=secret), 0
        while not stop.is_set():
            count += 1
            try:
                sqs.create_queue(QueueName=f"q-{number}-{count}")
                outcomes.append("answered")
            except botocore.exceptions.ClientError as error:
                outcomes.append(str(error.response["ResponseMetadata"]["HTTPStatusCode"]))

    def goes_on(since: int) -> bool:
        return outcomes[since:].count("answered") > 20

    threads = [threading.Thread(target=load, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        since = len(outcomes)
        eventually(lambda since=since: goes_on(since), f"{key} is accepted")  # type: ignore[misc]
        emulator.stop()
        emulator.start()
    stop.set()
    for thread in threads:
        thread.join()
    # A starting emulator is unreachable, or still has the key of the run before.
    assert set(outcomes) <= {"answered", "403", "502"}
    eventually(lambda: server.count() == len(outcomes), "every call has one record")
    created = [record for record in server.records("eventname = CreateQueue") if ok(record)]
    assert len(created) == outcomes.count("answered")
    assert {record["recipientAccountId"] for record in created} == {ACCOUNT}
    (arn,) = {record["userIdentity"]["arn"] for record in created}
    assert arn == f"arn:aws:iam::{ACCOUNT}:user/moto"
    kept = b"".join(files_in(server.data_dir).values())
    assert emulator.secret.encode() not in kept


@pytest.mark.campaign
def test_three_hundred_calls_have_right_records() -> None:
    count, found = emulators.measure()
    assert count == len(emulators.SERVICES) * emulators.OPERATIONS == 300
    assert found["opentrail"] == dict.fromkeys(emulators.FIELDS, count)
    assert found["MiniStack"]["eventName"] < count, "the comparison is out of date"
