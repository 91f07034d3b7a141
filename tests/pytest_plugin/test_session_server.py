"""The server behind the fixtures."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

from opentrail.core.errors import OpentrailError, UsageError
from opentrail.pytest_plugin.session_server import connected, running
from tests.live.processes import eventually, moto_server, opentrail_server

pytestmark = pytest.mark.live


def test_server_runs_until_the_end_of_the_block(tmp_path: Path) -> None:
    with moto_server() as moto, running(tmp_path, moto) as server:
        eventually(lambda: server.console.health()["status"] == "ok", "the server is well")
        assert server.moto is None, "another's moto must not be emptied"
    with pytest.raises(OpentrailError, match="no server answers"):
        server.console.health()
    assert not (tmp_path / "data" / "server.json").exists()


def test_a_failed_start_reports_the_reason(tmp_path: Path) -> None:
    with (
        pytest.raises(OpentrailError, match=r"ended with code 2:\n.*upstream"),
        running(tmp_path, "not-a-url"),
    ):
        pass


@pytest.mark.campaign
def test_records_are_read_over_more_than_one_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(tmp_path, None) as server:
        server.apply_to(monkeypatch)
        sqs = boto3.client("sqs")
        url = sqs.create_queue(QueueName="jobs")["QueueUrl"]
        mark = server.mark()
        for _ in range(1_050):
            sqs.get_queue_attributes(QueueUrl=url)
        end = server.mark()
        sqs.delete_queue(QueueUrl=url)
        position, records = server.records(mark, end)
        assert (position, len(records)) == (end, 1_050)
        assert server.records(end) == (end + 1, server.records(end)[1])
        assert [record["eventName"] for record in server.records(end)[1]] == ["DeleteQueue"]
        server.reset()
        assert "QueueUrls" not in sqs.list_queues()


def test_aws_variables_are_replaced_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://s3.amazonaws.com")
    monkeypatch.setenv("NO_PROXY", "example.com")
    monkeypatch.setenv("AWSOME", "1")
    with moto_server() as moto, running(tmp_path, moto) as server, monkeypatch.context() as inner:
        server.apply_to(inner)
        found = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        assert found == server.environment
        assert os.environ["NO_PROXY"] == "example.com,127.0.0.1,localhost"
        assert os.environ["AWSOME"] == "1"
    assert os.environ["AWS_PROFILE"] == "production"


def test_running_server_is_found_by_its_data_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "OPENTRAIL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with opentrail_server(tmp_path / "data", command="sandbox") as sandbox:
        server = connected(None, str(tmp_path / "data"))
        assert server.endpoint == sandbox.url
        server.reset()  # does nothing: the sandbox's moto is not of these tests
        monkeypatch.setenv("OPENTRAIL_TOKEN", sandbox.token)
        with pytest.raises(UsageError, match="set AWS_ENDPOINT_URL"):
            connected(sandbox.console, None)
        monkeypatch.setenv("AWS_ENDPOINT_URL", sandbox.url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        server = connected(sandbox.console, None)
        assert server.environment["AWS_ENDPOINT_URL"] == sandbox.url
        assert server.environment["AWS_ACCESS_KEY_ID"] == "AKIAIOSFODNN7EXAMPLE"
        assert server.mark() == 0


def test_no_server_is_explained(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no server runs on data directory"):
        connected(None, str(tmp_path))
