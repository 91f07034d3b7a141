"""The plugin in pytest sessions of its users."""

from __future__ import annotations

import os
import select
import subprocess
import sys

import pytest

from opentrail.pytest_plugin.session_server import TestServer
from tests.live.processes import TIMEOUT_SECONDS, clean_environment, moto_server

#: Tests of all common forms, in one session.
FORMS = """
import asyncio, os, unittest
import boto3, pytest

class TestStore(unittest.TestCase):
    @pytest.fixture(autouse=True)
    def record_calls(self, opentrail):
        self.opentrail = opentrail

    def test_an_upload_is_recorded(self):
        boto3.client("s3").create_bucket(Bucket="reports")
        self.opentrail.assert_called("s3:CreateBucket", bucket="reports", times=1)

    def test_each_test_begins_with_an_empty_moto_and_no_calls(self):
        assert boto3.client("s3").list_buckets()["Buckets"] == []
        assert [call.event_name for call in self.opentrail] == ["ListBuckets"]

@pytest.fixture
def anyio_backend():
    return "asyncio"

@pytest.mark.anyio
async def test_concurrent_calls_are_all_recorded(opentrail):
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="reports")
    def upload(number):
        s3.put_object(Bucket="reports", Key=f"{number}", Body=b"")
    await asyncio.gather(*[asyncio.to_thread(upload, number) for number in range(8)])
    opentrail.assert_called("s3:PutObject", times=8)

@pytest.mark.usefixtures("opentrail")
def test_the_environment_is_enough():
    assert boto3.client("sts").get_caller_identity()["Arn"]

def test_the_environment_is_as_before():
    assert os.environ.get("AWS_ENDPOINT_URL") is None
    assert os.environ["AWS_PROFILE"] == "mine"
    assert boto3.DEFAULT_SESSION is None
"""
#: Three tests that each make a trail, and a last test that finds no trail.
TRAILS = """
import boto3, json, pytest

@pytest.mark.parametrize("number", range(3))
def test_a_trail_is_made(opentrail, number):
    s3, trails = boto3.client("s3"), boto3.client("cloudtrail")
    s3.create_bucket(Bucket="for-trails")
    statement = {"Effect": "Allow", "Principal": {"Service": "cloudtrail.amazonaws.com"},
        "Action": ["s3:GetBucketAcl", "s3:PutObject"],
        "Resource": ["arn:aws:s3:::for-trails", "arn:aws:s3:::for-trails/*"]}
    s3.put_bucket_policy(Bucket="for-trails",
        Policy=json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    assert trails.describe_trails()["trailList"] == []
    trails.create_trail(Name="my-trail", S3BucketName="for-trails")
    trails.start_logging(Name="my-trail")
    opentrail.assert_called("cloudtrail:CreateTrail", times=1)

def test_nothing_is_left_of_it(opentrail):
    trails = boto3.client("cloudtrail")
    assert trails.describe_trails()["trailList"] == []
    names = [event["EventName"] for event in trails.lookup_events()["Events"]]
    assert "CreateTrail" not in names

def test_calls_are_made(opentrail):
    boto3.client("sqs").create_queue(QueueName="jobs")

@pytest.mark.opentrail_fresh
def test_a_fresh_server_has_no_history(opentrail):
    sqs = boto3.client("sqs")
    sqs.list_queues()
    events = boto3.client("cloudtrail").lookup_events()["Events"]
    assert [event["EventName"] for event in events] == ["ListQueues"]
"""
#: A program whose client is made on import, by its test's module or before.
AT_IMPORT = """
import boto3

s3 = boto3.client("s3", region_name="eu-west-1")
"""
FROM_MODULE = """
import boto3, os, pytest
import program
from opentrail.pytest_plugin.session_server import OtherHostError

own = boto3.client("sqs")

def test_clients_of_modules_call_the_server(opentrail):
    program.s3.list_buckets()
    own.list_queues()
    assert [call.action for call in opentrail] == ["s3:ListBuckets", "sqs:ListQueues"]

def test_other_clients_are_refused(opentrail):
    other = boto3.client("sts", endpoint_url="https://sts.amazonaws.com")
    with pytest.raises(OtherHostError, match="Make clients after the fixture") as refused:
        other.get_caller_identity()
    assert "https://sts.amazonaws.com/" in str(refused.value)
    assert __file__ in str(refused.value)
    assert not list(opentrail)

def test_the_environment_is_as_before():
    assert os.environ["AWS_PROFILE"] == "mine"
    assert "AWS_ENDPOINT_URL" not in os.environ
    assert boto3.DEFAULT_SESSION is None
"""
GOLDEN = """
import boto3

def test_an_upload_is_recorded(opentrail):
    s3 = boto3.client("s3")
    s3.create_bucket(Bucket="reports")
    s3.put_object(Bucket="reports", Key="KEY", Body=b"")
    opentrail.assert_golden()
"""


@pytest.fixture
def session(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder for tests, in an environment without AWS's variables."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "PYTEST_ADDOPTS", "OPENTRAIL_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return pytester


@pytest.fixture
def shared(
    session: pytest.Pytester, opentrail_server: TestServer, monkeypatch: pytest.MonkeyPatch
) -> pytest.Pytester:
    """The same, with a running server."""
    monkeypatch.setenv("OPENTRAIL_TOKEN", opentrail_server.console.token)
    monkeypatch.setenv("AWS_ENDPOINT_URL", opentrail_server.endpoint)
    monkeypatch.setenv("PYTEST_ADDOPTS", f"--opentrail-endpoint={opentrail_server.console.url}")
    return session


@pytest.mark.slow
def test_an_unrelated_session_imports_nothing(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import sys

        def test_what_is_imported(request):
            assert request.config.pluginmanager.hasplugin("opentrail")
            heavy = {"boto3", "botocore", "duckdb", "moto", "msgspec", "orjson"}
            assert heavy.isdisjoint(sys.modules)
            own = [name for name in sys.modules if name.partition(".")[0] == "opentrail"]
            assert sorted(own) == [
                "opentrail", "opentrail.core", "opentrail.core.version", "opentrail.pytest_plugin",
                "opentrail.pytest_plugin.plugin",
            ]
    """)
    session.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.campaign
@pytest.mark.live
@pytest.mark.parametrize("workers", ["0", "2"])
def test_all_forms_run_in_sequence_and_parallel(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, workers: str
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    session.makepyfile(FORMS)
    session.runpytest_subprocess("-n", workers).assert_outcomes(passed=5)


@pytest.mark.campaign
@pytest.mark.live
def test_each_test_starts_with_an_empty_opentrail(session: pytest.Pytester) -> None:
    session.makepyfile(TRAILS)
    session.runpytest_subprocess().assert_outcomes(passed=6)


@pytest.mark.campaign
@pytest.mark.live
def test_module_clients_call_only_the_server(
    session: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "mine")
    session.makepyfile(program=AT_IMPORT, test_program=FROM_MODULE)
    session.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=3)


@pytest.mark.live
def test_client_that_another_module_made_first_is_refused(shared: pytest.Pytester) -> None:
    shared.makepyfile(
        program=AT_IMPORT.replace(
            '"s3"',
            '"s3", endpoint_url="https://s3.amazonaws.com", aws_access_key_id="AKIAREAL", '
            'aws_secret_access_key="real"',
        ),
        test_a="import program\n\ndef test_nothing_is_called(): pass\n",
        test_b="""
            import program

            def test_a_call_is_made(opentrail):
                program.s3.list_buckets()
        """,
    )
    result = shared.runpytest_subprocess()
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*OtherHostError: GET https://s3*is refused*"])


@pytest.mark.slow
def test_a_module_client_without_server_reaches_nothing(session: pytest.Pytester) -> None:
    session.makepyfile("""
        import boto3, pytest
        from botocore.config import Config
        from botocore.exceptions import EndpointConnectionError

        with pytest.raises(EndpointConnectionError, match="127.0.0.1"):
            boto3.client("s3", config=Config(retries={"max_attempts": 0})).list_buckets()

        def test_a_call_is_made(opentrail): pass
    """)
    session.runpytest_subprocess("--collect-only").assert_outcomes()
    assert session.runpytest_subprocess("--collect-only", "-q").ret == 0


@pytest.mark.live
def test_server_imports_a_conftest_with_the_fixture(
    shared: pytest.Pytester,
) -> None:
    shared.makeconftest("""
        import boto3, pytest

        sqs = boto3.client("sqs")

        @pytest.fixture
        def world(opentrail):
            sqs.create_queue(QueueName="jobs")
            return opentrail
    """)
    shared.makepyfile("""
        def test_a_call_is_made(world):
            world.assert_called("sqs:CreateQueue")
    """)
    shared.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.live
def test_listed_hosts_may_be_called(shared: pytest.Pytester, opentrail_server: TestServer) -> None:
    """The console's port, which is not an AWS endpoint but answers."""
    host = opentrail_server.console.url.removeprefix("http://")
    shared.makeini(f"[pytest]\nopentrail_allowed_hosts = example.com {host}")
    shared.makepyfile(f"""
        import boto3, pytest
        from botocore.parsers import ResponseParserError

        def test_a_call_is_made(opentrail):
            with pytest.raises(ResponseParserError):
                boto3.client("iam", endpoint_url="http://{host}").list_users()
    """)
    shared.runpytest_subprocess().assert_outcomes(passed=1)


@pytest.mark.campaign
@pytest.mark.live
def test_golden_trails_are_written_compared_and_shown(shared: pytest.Pytester) -> None:
    shared.makepyfile(test_reports=GOLDEN)
    missing = shared.runpytest_subprocess()
    missing.assert_outcomes(failed=1)
    file = "golden/test_reports/test_an_upload_is_recorded.json"
    hint = f"*there is no golden trail {file}: 'pytest --update-golden' writes it"
    missing.stdout.fnmatch_lines([hint])

    shared.runpytest_subprocess("--update-golden").assert_outcomes(passed=1)
    assert '"key": "KEY"' in (shared.path / file).read_text()
    shared.runpytest_subprocess().assert_outcomes(passed=1)

    shared.makepyfile(test_reports=GOLDEN.replace("KEY", "other"))
    changed = shared.runpytest_subprocess()
    changed.assert_outcomes(failed=1)
    changed.stdout.fnmatch_lines(['*-      "key": "KEY"', '*+      "key": "other"'])


@pytest.mark.live
def test_failure_ends_at_the_line_of_the_test(shared: pytest.Pytester) -> None:
    shared.makepyfile("""
        def test_an_upload_is_recorded(opentrail):
            opentrail.assert_called("s3:PutObject")

        def test_a_wrong_action(opentrail):
            opentrail.assert_called("PutObject")
    """)
    done = shared.runpytest_subprocess()
    done.assert_outcomes(failed=2)
    done.stdout.fnmatch_lines(
        [
            ">*assert_called('s3:PutObject')*".replace("'", '"'),
            "E*no call was recorded at all*",
            "test_failure_ends_at_the_line_of_the_test.py:2: AssertionError",
            "E*such as 's3:PutObject' or 'iam:Create*', not 'PutObject'",
            "test_failure_ends_at_the_line_of_the_test.py:5: UsageError",
        ]
    )


@pytest.mark.campaign
@pytest.mark.live
def test_another_upstream_is_recorded_and_never_emptied(session: pytest.Pytester) -> None:
    session.makeini("[pytest]\nopentrail_upstream = http://127.0.0.1:1")
    session.makepyfile("""
        import boto3

        def test_the_first_one(opentrail):
            boto3.client("iam").create_user(UserName="Mary")
            opentrail.assert_called("iam:CreateUser", user="admin")

        def test_the_second_one(opentrail):
            assert boto3.client("iam").list_users()["Users"]
    """)
    with moto_server() as moto:
        done = session.runpytest_subprocess("--opentrail-upstream", moto)
    done.assert_outcomes(passed=2)


@pytest.mark.campaign
@pytest.mark.live
def test_a_project_can_disable_the_reset_of_moto(session: pytest.Pytester) -> None:
    session.makeini("[pytest]\nopentrail_reset = false")
    session.makepyfile("""
        import boto3

        def test_the_first_one(opentrail):
            boto3.client("iam").create_user(UserName="Mary")

        def test_the_second_one(opentrail):
            assert boto3.client("iam").list_users()["Users"]
            opentrail.assert_not_called("iam:CreateUser")
    """)
    session.runpytest_subprocess().assert_outcomes(passed=2)


@pytest.mark.campaign
@pytest.mark.live
@pytest.mark.parametrize("signal", ["SIGINT", "SIGKILL"])
def test_a_cut_session_leaves_no_process(session: pytest.Pytester, signal: str) -> None:
    session.makepyfile(f"""
        import os, pathlib, signal

        def test_the_session_ends(opentrail):
            children = pathlib.Path(f"/proc/self/task/{{os.getpid()}}/children").read_text()
            pathlib.Path("children").write_text(children)
            os.kill(os.getpid(), signal.{signal})
    """)
    assert session.runpytest_subprocess().ret != 0
    pids = [int(pid) for pid in (session.path / "children").read_text().split()]
    assert len(pids) == 2
    for pid in pids:
        try:
            ended = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        assert select.select([ended], [], [], TIMEOUT_SECONDS)[0], "it runs on"
        os.close(ended)


@pytest.mark.campaign
@pytest.mark.live
def test_test_folders_modules_do_not_affect_servers(session: pytest.Pytester) -> None:
    for name in ("uvicorn", "flask"):
        (session.path / f"{name}.py").write_text("raise RuntimeError")
    file = session.makepyfile("def test_that_it_starts(opentrail): pass")
    # Not by pytester, which puts the folder into PYTHONPATH.
    command = [sys.executable, "-m", "pytest", str(file)]
    subprocess.run(command, cwd=session.path, env=clean_environment(), check=True)


@pytest.mark.slow
def test_missing_moto_is_an_error_with_the_extra(session: pytest.Pytester) -> None:
    session.makeconftest('import sys\nsys.modules["moto"] = None')
    session.makepyfile("def test_the_first_one(opentrail): pass")
    done = session.runpytest_subprocess()
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*needs moto: * install 'opentrail?pytest?', or name another*"])
    assert "Traceback" not in done.stdout.str()


@pytest.mark.slow
def test_a_missing_server_is_an_error(session: pytest.Pytester) -> None:
    session.makepyfile("def test_the_first_one(opentrail): pass")
    done = session.runpytest_subprocess("--opentrail-data-dir", "nowhere")
    done.assert_outcomes(errors=1)
    done.stdout.fnmatch_lines(["*no server runs on data directory nowhere*"])


@pytest.mark.campaign
@pytest.mark.parametrize("place", ["other", "conftest"])
@pytest.mark.parametrize(
    ("kind", "given"), [('"store_true"', "--update-golden"), ('"store"', "--update-golden=x")]
)
def test_a_projects_own_option_is_left_alone(
    session: pytest.Pytester, place: str, kind: str, given: str
) -> None:
    (session.path / f"{place}.py").write_text(
        "def pytest_addoption(parser):\n"
        f"    parser.addoption('--update-golden', action={kind}, dest='other')\n"
    )
    session.makepyfile("""
        def test_one_of_both_is_given(request):
            own = request.config.getoption("opentrail_update_golden")
            assert bool(request.config.getoption("other")) != own
    """)
    plugins = ("-p", "other") if place == "other" else ()
    for option in (given, "--opentrail-update-golden"):
        session.runpytest_subprocess(*plugins, option).assert_outcomes(passed=1)


@pytest.mark.campaign
def test_the_short_option_exists_otherwise(session: pytest.Pytester) -> None:
    session.makepyfile("""
        def test_it_is_given(request):
            assert request.config.getoption("opentrail_update_golden")
    """)
    session.runpytest_subprocess("--update-golden").assert_outcomes(passed=1)
    shown = session.runpytest_subprocess("--help").stdout
    shown.fnmatch_lines(["*--opentrail-update-golden*", "*--update-golden*"])
