"""A server without any wing records, finds and delivers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.live.processes import Opentrail, clean_environment, moto_server, until_well

pytestmark = pytest.mark.live

#: Modules that the core must not load.
WINGS = (
    "opentrail.app.wings",
    "opentrail.insights",
    "opentrail.imports",
    "opentrail.trails.organization_trails",
    "opentrail.permissions",
    "opentrail.detections",
    "opentrail.api.v1.questions",
    "opentrail.api.console",
    "opentrail.trails.sns",
    "opentrail.trails.eventbridge",
    "opentrail.trails.cloudwatch_logs",
)
SERVER = """
import json, sys
from pathlib import Path
from opentrail.app.server import serve
from opentrail.settings import Address, Settings

def ready(server):
    loaded = [name for name in sys.modules if name.startswith("opentrail.")]
    print(json.dumps([server.endpoint_url, server.console_link(), loaded]), flush=True)

here = Address("127.0.0.1", 0)
serve(
    Settings(
        data_dir=Path(sys.argv[1]), upstream={"": sys.argv[2]}, listen=here, console_listen=here
    ),
    (),
    ready,
)
"""


class CoreServer(Opentrail):
    """A server without wings, in a process that prints its loaded modules."""

    loaded: list[str]

    def start(self, **environment: str) -> CoreServer:
        """Starts the server and returns once it is ready."""
        (upstream,) = self.flags
        self.process = subprocess.Popen(
            [self.python, "-c", SERVER, str(self.data_dir), upstream],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=clean_environment(**environment),
        )
        assert self.process.stdout is not None
        self.output = self.process.stdout.readline()
        self.url, self.link, self.loaded = json.loads(self.output)
        described = json.loads((self.data_dir / "server.json").read_text())
        self.console, self.token = described["console"], described["token"]
        return self


def test_server_without_wings_records_finds_delivers_and_answers(tmp_path: Path) -> None:
    with moto_server() as moto:
        server = CoreServer(tmp_path / "data", moto)
        try:
            server.start()
            assert server.link is None
            assert [name for name in server.loaded if name.startswith(WINGS)] == []
            server.boto("s3").create_bucket(Bucket="evidence")
            trails = server.boto("cloudtrail")
            made = trails.create_trail(
                Name="core", S3BucketName="evidence", EnableLogFileValidation=True
            )
            trails.start_logging(Name="core")
            server.boto("iam").create_user(UserName="Mary")
            said = server.opentrail("who", "Mary")
            assert "created IAM user Mary" in said.stdout, said.stderr
            assert server.opentrail("trail", "flush", "core").returncode == 0
            validated = server.validate(made["TrailARN"])
            assert validated.returncode == 0, validated.stdout + validated.stderr
            # Questions of a missing wing get an error.
            assert "there is no" in server.opentrail("insights", "status").stderr
            assert "there is no" in server.opentrail("detections", "list").stderr
            assert server.opentrail("insights").returncode == 5
            organization = server.try_aws(
                *("cloudtrail", "create-trail", "--name", "all", "--s3-bucket-name", "evidence"),
                "--is-organization-trail",
            )
            assert "organizations on this server" in organization.stderr
            until_well(server)
            assert server.stop() == 0
        finally:
            server.close()
