"""`opentrail exec` around real commands, in front of moto."""

from __future__ import annotations

import json
import os
import pty
import signal
import stat
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.live.processes import BIN, TIMEOUT_SECONDS, clean_environment, moto_server

pytestmark = [pytest.mark.live, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
OPENTRAIL = [str(BIN / "opentrail"), "exec"]


def execute(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*OPENTRAIL, *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        env={**clean_environment(), **(environment or {})},
    )


def script(folder: Path, source: str) -> list[str]:
    file = folder / "script.py"
    file.write_text(textwrap.dedent(source))
    return [sys.executable, str(file)]


def test_a_summary_has_changes_and_failures(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        """
        import boto3
        s3 = boto3.client("s3")
        s3.create_bucket(Bucket="photos")
        boto3.client("iam").create_user(UserName="Mary")
        for _ in range(2):
            try:
                s3.get_object(Bucket="photos", Key="none")
            except s3.exceptions.NoSuchKey:
                print("no such key")
        """,
    )
    policy, records, kept = tmp_path / "policy.json", tmp_path / "calls.ndjson", tmp_path / "kept"
    flags = [f"--policy={policy}", f"--ndjson={records}", f"--keep={kept}"]
    done = execute(*flags, "--", *command)
    assert done.returncode == 0
    assert done.stdout == "no such key\n" * 2
    first, *lines = done.stderr.splitlines()
    assert first.startswith(f"opentrail: {' '.join(command)} made 4 calls in ")
    assert lines == [
        "  calls     s3 3, iam 1",
        "  changed   created S3 bucket photos",
        "            created IAM user Mary",
        "  failed    s3:GetObject NoSuchKey: The specified key does not exist. (2 times)",
        f"  kept      opentrail serve --data-dir {kept / 'data'}",
    ]
    names = [json.loads(line)["eventName"] for line in records.read_text().splitlines()]
    assert names == ["CreateBucket", "CreateUser", "GetObject", "GetObject"]
    statements = json.loads(policy.read_text())["Statement"]
    assert [each["Action"] for each in statements] == [["iam:CreateUser"], ["s3:CreateBucket"]]
    assert (kept / "data" / "state.db").is_file()
    for path in (records, kept, *kept.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path


def test_the_calls_of_terraform_are_summed_up(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        f"""
        import sys
        from types import SimpleNamespace

        import boto3

        sys.path.insert(0, {str(ROOT)!r})
        from tests.live.test_terraform import Provider

        boto3.client("s3").create_bucket(Bucket="logs")
        provider = Provider(SimpleNamespace(boto=boto3.client), "audit")
        provider.create({{"s3_bucket_name": "logs", "tags": {{"team": "search"}}}})
        print(provider.read()["s3_bucket_name"])
        provider.destroy()
        """,
    )
    done = execute("--", *command)
    assert (done.returncode, done.stdout) == (0, "logs\n"), done.stderr
    changed = done.stderr[done.stderr.index("  changed") :]
    for line in (
        "created S3 bucket logs",
        "created trail audit",
        "started logging of trail audit",
        "deleted trail arn:aws:cloudtrail:us-east-1:123456789012:trail/audit",
    ):
        assert line in changed


def test_pytest_keeps_its_exit_code_and_its_output(tmp_path: Path) -> None:
    tests = tmp_path / "test_it.py"
    tests.write_text(
        "import boto3\n"
        "def test_it():\n"
        "    boto3.client('sns').create_topic(Name='alarms')\n"
        "    assert False\n"
    )
    pytest_itself = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    done = execute("--json", "--", *pytest_itself)
    assert done.returncode == 1
    assert "1 failed" in done.stdout
    summary = json.loads(done.stderr.splitlines()[-1])
    assert summary["exitCode"] == 1
    assert summary["services"] == {"sns": 1}
    assert summary["changed"] == [{"what": "created SNS topic alarms", "times": 1}]


def test_aws_cli_calls_use_the_set_endpoint(tmp_path: Path) -> None:
    with moto_server() as upstream:
        environment = {
            "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
            "AWS_ENDPOINT_URL_S3": upstream,
            "AWS_ENDPOINT_URL_CLOUDWATCH_LOGS": upstream,
            "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_DEFAULT_REGION": "eu-central-1",
        }
        making = [
            str(BIN / "aws"),
            "s3api",
            "create-bucket",
            "--bucket",
            "photos",
            "--create-bucket-configuration",
        ]
        done = execute("--", *making, "LocationConstraint=eu-central-1", environment=environment)
        assert done.returncode == 0, done.stderr
        assert "created S3 bucket photos" in done.stderr
        listed = subprocess.run(
            [str(BIN / "aws"), "s3", "ls", "--endpoint-url", upstream],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
            env={**clean_environment(), **environment},
        )
        assert "photos" in listed.stdout


def test_a_command_without_calls_is_reported() -> None:
    done = execute("--", "sh", "-c", "exit 7")
    assert done.returncode == 7
    assert "opentrail: sh -c exit 7 made no call to AWS in " in done.stderr


def test_the_calls_of_a_killed_command_are_printed(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        """
        import boto3, os, signal
        boto3.client("sqs").create_queue(QueueName="jobs")
        os.kill(os.getpid(), signal.SIGKILL)
        """,
    )
    done = execute("--", *command)
    assert done.returncode == 128 + signal.SIGKILL
    assert "created SQS queue jobs" in done.stderr


def test_signals_pass_through(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print("ready", flush=True)
        signal.pause()
        """,
    )
    process = subprocess.Popen(
        [*OPENTRAIL, "--", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=clean_environment(),
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    _, errors = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 5
    assert "made no call to AWS" in errors


def test_a_command_reads_a_password_from_the_terminal(tmp_path: Path) -> None:
    command = script(
        tmp_path,
        """
        import getpass, sys
        sys.exit(0 if getpass.getpass("Password: ") == "open sesame" else 1)
        """,
    )
    try:
        child, terminal = pty.fork()
    except OSError:
        pytest.skip("this machine has no pseudo-terminals")
    if child == 0:
        os.execve(OPENTRAIL[0], [*OPENTRAIL, "--", *command], clean_environment())  # noqa: S606 - our own program
    shown = b""
    while b"Password: " not in shown:
        shown += os.read(terminal, 1024)
    os.write(terminal, b"open sesame\n")
    try:
        while part := os.read(terminal, 1024):
            shown += part
    except OSError:
        pass  # the end of a terminal
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert b"open sesame" not in shown


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "exec needs a command, such as: opentrail exec pytest -q"),
        (["--", "no-such-program"], 127, "command no-such-program not found"),
        (["--policy=/nowhere/p.json", "--", "true"], 2, "/nowhere/p.json cannot be written"),
        (["--upstream=nonsense", "--", "true"], 2, "--upstream must be URL"),
        (["true"], 2, "AWS_ENDPOINT_URL_WIDGETS: AWS has no service WIDGETS"),
    ],
)
def test_a_mistake_is_named(arguments: list[str], code: int, message: str) -> None:
    variable = "AWS_ENDPOINT_URL_WIDGETS" if arguments == ["true"] else "UNUSED"
    done = execute(*arguments, environment={variable: "http://127.0.0.1:9"})
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
