"""Mistyped commands, and commands with closed outputs, against a running server."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.live.processes import (
    Opentrail,
    clean_environment,
    free_port,
    opentrail_server,
    run_opentrail,
)
from tests.stub_upstream import StubUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opentrail]:
    folder = tmp_path_factory.mktemp("commands") / "data"
    with StubUpstream() as upstream, opentrail_server(folder, "--upstream", upstream.url) as one:
        one.boto("iam").create_user(UserName="Mary")
        one.boto("sqs", region="eu-west-1").create_queue(QueueName="jobs")
        one.boto("s3").put_object(Bucket="evidence", Key="a.txt", Body=b"a")
        assert len(one.records()) == 3
        yield one


def typed(server: Opentrail, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Runs a command against the server in a separate process."""
    return run_opentrail(*arguments, "--data-dir", str(server.data_dir))


@pytest.mark.parametrize(
    "expression",
    ["region=eu-west-1", "name=CreateQueue AND region=eu-*", "name=PutObject AND category=Data"],
)
def test_an_expression_overrides_a_default(server: Opentrail, expression: str) -> None:
    done = typed(server, "lookup", expression)
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 2, done.stderr
    assert "the defaults hide" not in done.stderr


@pytest.mark.parametrize(
    ("expression", "flags"),
    [
        ("name=PutObject", "--all-categories"),
        ("name=CreateQueue", "--all-regions"),
        ("name=PutObject OR name=CreateQueue", "--all-categories --all-regions"),
    ],
)
def test_hidden_events_are_counted_with_their_flags(
    server: Opentrail, expression: str, flags: str
) -> None:
    done = typed(server, "lookup", expression)
    count = 1 + expression.count("OR")
    events = "1 event" if count == 1 else f"{count} events"
    where = " in eu-west-1" if "--all-regions" in flags else ""
    assert f"opentrail: the defaults hide {events}{where}; shown with {flags}\n" in done.stderr
    shown = typed(server, "lookup", expression, *flags.split())
    assert len(shown.stdout.splitlines()) == 1 + count
    assert "hide" not in shown.stderr


def test_words_need_no_quotes_and_names_no_capitals(server: Opentrail) -> None:
    done = typed(server, "lookup", "name=createuser", "resource=mary", "last", "1h")
    assert "opentrail: no event name is createuser; shown is CreateUser\n" in done.stderr
    assert "opentrail: no resource is mary; shown is Mary\n" in done.stderr
    assert len(done.stdout.splitlines()) == 2
    done = typed(server, "lookup", "name=CraeteQueue")
    said = "no event name is CraeteQueue; did you mean CreateQueue (1 event)?"
    assert said in done.stderr
    done = typed(server, "lookup", "name=createqueue")
    assert "did you mean CreateQueue (1 event)?" in done.stderr
    assert "the defaults hide 1 event in eu-west-1; shown with --all-regions" in done.stderr
    done = typed(server, "lookup", "ip=10.0.0.0/99")
    assert done.returncode == 2
    assert "column 4: expected an address such as 203.0.113.64" in done.stderr


def test_the_aws_endpoint_is_recognized_by_its_answers(server: Opentrail, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opentrail", "lookup", "--endpoint", server.url]
    done = subprocess.run(
        command,
        env=clean_environment(OPENTRAIL_TOKEN=server.token),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "if it is the AWS endpoint, use the console's address" in done.stderr


def test_an_endpoint_needs_only_the_token(server: Opentrail, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "opentrail", "lookup", "--endpoint", server.console]
    for token, code in ((server.token, 0), ("", 2), ("wrong", 1)):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=clean_environment(OPENTRAIL_TOKEN=token),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        assert ("OPENTRAIL_TOKEN" in done.stderr) == (code == 2)


@pytest.mark.parametrize("arguments", [["lookup"], ["status"], ["who", "Mary"]])
@pytest.mark.parametrize("output", ["/dev/full", "closed"])
def test_an_unwritable_output_is_reported(
    server: Opentrail, arguments: list[str], output: str
) -> None:
    data = ["--data-dir", str(server.data_dir)]
    command = " ".join([sys.executable, "-m", "opentrail", *arguments, *data])
    redirected = ">&-" if output == "closed" else f"> {output}"
    done = subprocess.run(
        ["sh", "-c", f"{command} {redirected}"],
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    reason = "Bad file descriptor" if output == "closed" else "No space left on device"
    assert f"cannot be written: {reason}" in done.stderr
    assert done.returncode == 74


def test_a_closed_pipe_is_not_an_error(server: Opentrail) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "opentrail", "lookup", "--data-dir", str(server.data_dir)],
        env=clean_environment(),
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--upstream", "dynamodbb=http://127.0.0.1:9"], "did you mean dynamodb?"),
        (["--upstream", "http://127.0.0.1:9", "--upstream", "x=http://h"], "no service 'x'"),
    ],
)
def test_an_unknown_service_is_wrong_use(tmp_path: Path, flags: list[str], said: str) -> None:
    done = run_opentrail("serve", "--data-dir", str(tmp_path / "data"), *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "data").exists()


def test_one_port_for_both_listeners_is_wrong_use(tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    done = run_opentrail(
        *("serve", "--data-dir", str(tmp_path / "data"), "--upstream", "http://127.0.0.1:9"),
        *("--listen", address, "--console-listen", address),
    )
    assert done.returncode == 2
    assert "give them different ports" in done.stderr


def test_two_forms_of_output_are_wrong_use(server: Opentrail) -> None:
    for command in (["lookup"], ["tail"]):
        done = typed(server, *command, "--json", "--csv")
        assert done.returncode == 2
        assert "exclude each other" in done.stderr
