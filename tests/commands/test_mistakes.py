"""Mistyped commands: each message names the thing and the remedy, and nothing starts."""

from __future__ import annotations

import io
import shlex
from pathlib import Path

import pytest

from opentrail.cli import main

ON = "--upstream http://127.0.0.1:1"
#: Mistyped commands, and the part that the message must name.
MISTAKES = (
    # Servers
    ("serve", "--upstream URL is needed", "http://127.0.0.1:5000"),
    ("serve --upstream localhost:5000", "--upstream", "SERVICE=URL", "localhost:5000"),
    ("serve --upstream ftp://x", "--upstream", "SERVICE=URL", "ftp://x"),
    ("serve --upstream s4=http://127.0.0.1:1", "--upstream", "no service 's4'"),
    (f"serve {ON} --listen 4747", "--listen", "HOST:PORT", "'4747'"),
    (f"serve {ON} --listen 127.0.0.1:99999", "--listen", "HOST:PORT", "99999"),
    (f"serve {ON} --listen 0.0.0.0:4747", "--listen 0.0.0.0", "--auth enforced"),
    (f"serve {ON} --listen nowhere.invalid:4747", "--listen nowhere.invalid", "127.0.0.1"),
    (f"serve {ON} --console-listen 0.0.0.0:4748", "--console-listen", "--tls-certificate"),
    (f"serve {ON} --delivery-interval 0", "--delivery-interval", "greater than 0", "'0'"),
    (f"serve {ON} --delivery-interval 5m", "--delivery-interval", "a number", "'5m'"),
    (f"serve {ON} --digest-interval -1", "--digest-interval", "greater than 0"),
    (f"serve {ON} --history-seal-records 0", "--history-seal-records", "whole number"),
    (f"serve {ON} --upstream-timeout soon", "--upstream-timeout", "a number", "'soon'"),
    (f"serve {ON} --upstream-ca gone.pem", "--upstream-ca must name a file", "'gone.pem'"),
    (f"serve {ON} --control-store postgresql://h:x/d", "--control-store", "host or port"),
    (f"serve {ON} --history-retention-days x", "--history-retention-days", "whole number"),
    (f"serve {ON} --signing-key-days 0", "--signing-key-days", "whole number"),
    (f"serve {ON} --trails-per-region 1.5", "--trails-per-region", "whole number", "1.5"),
    (f"serve {ON} --recorders 0", "--recorders", "whole number"),
    (f"serve {ON} --recorders 257", "--recorders", "at most 256"),
    (f"serve {ON} --auth strict", "--auth", "permissive, verify, enforced", "'strict'"),
    (f"serve {ON} --unknown-keys refuse", "--unknown-keys", "--auth verify or enforced"),
    (f"serve {ON} --on-record-failure drop", "--on-record-failure", "refuse, allow"),
    (
        f"serve {ON} --bucket-policy-check on",
        "--bucket-policy-check",
        "permissive, enforced",
    ),
    (f"serve {ON} --event-bridge on", "--event-bridge", "auto, off"),
    (f"serve {ON} --organization mine", "--organization", "off, upstream"),
    (f"serve {ON} --insights maybe", "--insights", "on, off"),
    (f"serve {ON} --insights-types everything", "--insights-types", "new-region"),
    (f"serve {ON} --insights-preset loud", "--insights-preset", "balanced, strict, aws"),
    (f"serve {ON} --control-store mysql://x", "--control-store", "postgresql://"),
    (f"serve {ON} --control-store postgresql://u:p@h/d", "OPENTRAIL_CONTROL_STORE"),
    (f"serve {ON} --tls-certificate gone.pem --tls-key gone.pem", "--tls-certificate", "gone.pem"),
    (f"serve {ON} --tls-certificate text --tls-key text", "--tls-certificate", "PEM"),
    (f"serve {ON} --tls-certificate text", "--tls-certificate and --tls-key belong together"),
    (f"serve {ON} --trusted-proxies 10.0.0.0/99", "--trusted-proxies", "10.0.0.0/8"),
    (f"serve {ON} --insecure-trusted-networks 0.0.0.0/0", "private networks", "172.16.0.0/12"),
    (f"serve {ON} --oidc-issuer id.example.com", "--oidc-issuer", "https URL"),
    (f"serve {ON} --oidc-issuer https://id.example", "issuer and client_id belong together"),
    ("serve --config gone.toml", "config file gone.toml", "No such file"),
    ("serve --config text", "config file text", "not TOML"),
    ("serve --config unknown.toml", "unknown.toml", "unknown key 'colour'"),
    ("serve --config nameless.toml", "'AKIAX'", "user = NAME or root = true"),
    ("sandbox --s3 ceph", "--s3", "moto, seaweedfs", "'ceph'"),
    ("sandbox --listen 0.0.0.0:4747", "--listen 0.0.0.0", "127.0.0.1"),
    # Questions
    ("--data-dir data lookup", "comes after the command", "opentrail lookup --data-dir"),
    ("--json status", "comes after the command", "opentrail status --json"),
    ("lookup --start-time 2020-01-01", "--start-time", "did you mean --since?"),
    ("lookup --end-time=2020-01-01", "--end-time", "did you mean --until?"),
    ("lookup --output json", "--output", "did you mean --json?"),
    ("who --name Mary", "a name has no flag", "opentrail who RESOURCE"),
    ("timeline --name Mary", "a name has no flag", "opentrail timeline NAME"),
    ("trail create --name t --bucket b", "a name has no flag", "opentrail trail create NAME"),
    ("trail create t --s3-bucket-name b", "--bucket"),
    ("exec", "exec needs a command", "opentrail exec pytest -q"),
    ("exec --upstream ftp://x -- true", "--upstream must be URL or SERVICE=URL", "ftp://x"),
    ("timeline --kind robot Mary", "--kind", "'robot'", "'principal'"),
    ("doctor --fixx", "usage: opentrail doctor", "did you mean --fix?"),
    ("mcp --listen x", "--listen must be HOST:PORT", "127.0.0.1:4747"),
    ("policy generate 'a b'", "PRINCIPAL must be the name or ARN", "'a b'"),
    ("policy test gone.json --principal Mary", "the policy gone.json cannot be read"),
    ("policy test broken.json --principal Mary", "the policy broken.json is not JSON"),
    ("policy unused Mary wrong.json", "the policy wrong.json is not valid", "Maybe"),
    ("trail create t --s3-key-prefix x --bucket b", "did you mean --prefix?"),
    ("users tokens", "unknown action 'tokens'", "did you mean token?"),
    ("exec --policy /nowhere/p.json -- true", "/nowhere/p.json cannot be written"),
    ("lookup", "no server runs on data directory opentrail-data", "--data-dir", "sandbox"),
    ("lookup --json --csv", "--json and --csv exclude each other"),
    ("lookup --data-dir elsewhere", "elsewhere", "--data-dir"),
    ("lookup --endpoint 127.0.0.1:4748", "OPENTRAIL_TOKEN"),
    ("who", "required: RESOURCE"),
    ("who Mary John", "unrecognized arguments: John"),
    ("tail --last 3 --after 4", "--after and --last exclude each other"),
    ("tail --after x --data-dir data", "--after", "'x'"),
    ("import", "required: PATH"),
    ("import gone.json", "no file or folder gone.json"),
    ("import s3://", "s3:// names no bucket", "s3://BUCKET/PREFIX"),
    ("export", "--parquet --ndjson --ocsf --ocsf-parquet --csv is required"),
    ("export --csv full", "full is not empty", "--overwrite"),
    ("export --csv text", "text is not a folder"),
    ("insights show", "needs the ID of an incident"),
    ("insights list abc", "opentrail insights show ID"),
    ("insights scan", "--since T"),
    ("insights show abc --note x", "opentrail insights expected ID"),
    ("insights list --events", "opentrail insights show ID"),
    ("validate", "required: SOURCE"),
    ("validate nowhere", "no folder nowhere"),
    ("validate s3://", "s3:// names no bucket"),
    ("lokup user=x", "unknown command 'lokup'", "did you mean lookup?"),
    ("trail creat x", "unknown action 'creat'", "did you mean create?", "known are list, show"),
    ("lookup --al-regions", "usage: opentrail lookup", "--al-regions", "mean --all-regions?"),
    (f"serve --upstram {ON}", "usage: opentrail serve", "did you mean --upstream?"),
    ("keys create --usr x --root", "usage: opentrail keys create", "did you mean --user?"),
    ("lookup --account 12", "--account", "an account has 12 digits, not '12'"),
    ("lookup --region 'us east'", "--region", "such as eu-central-1, not 'us east'"),
    # Trails, keys, users
    ("trail", "required: ACTION"),
    ("trail show", "required: NAME"),
    ("trail create t", "required: --bucket"),
    ("trail create t --bucket evidence", "NAME: Trail name too short", "3 characters"),
    ("trail create a/b --bucket evidence", "NAME: Trail name"),
    ("trail create audit --bucket Evidence", "--bucket: Bucket name 'Evidence' is not a valid"),
    ("trail create audit --bucket evidence --prefix /logs", "--prefix: ", "no leading slash"),
    ("trail create audit --bucket evidence --prefix logs/", "--prefix: 'logs/' ends with a slash"),
    (f"trail create audit --bucket evidence --prefix {'a' * 201}", "--prefix: ", "at most 200"),
    ("trail create audit --bucket evidence --kms-key 'a b'", "--kms-key: ", "alias/NAME"),
    ("trail create audit --bucket evidence --create-topic", "--create-topic", "--topic NAME"),
    ("keys create", "--user --root --principal is required"),
    ("keys create --user a --root", "not allowed with argument"),
    ("keys create --user a --data-dir gone", "gone is not a data directory", "--data-dir DIR"),
    ("keys create --user a --lifetime soon --data-dir data", "--lifetime", "12h", "'soon'"),
    ("keys disable AKIAX --data-dir data", "'AKIAX' not found", "opentrail keys list"),
    ("keys import AKIAX --user a --data-dir data", "standard input, which is empty"),
    ("keys rotate x --data-dir data", "access key 'x' not found", "opentrail keys list"),
    ("policies show Gone --data-dir data", "policy 'Gone' not found", "account 123456789012"),
    ("policies put gone.json --data-dir data", "policy file gone.json"),
    ("policies put broken.json --data-dir data", "not a policy", "Syntax errors"),
    ("policies put wrong.json --data-dir data", "not a policy", "Maybe"),
    ("policies attach Nothing --user a --data-dir data", "'Nothing' not found", "ReadOnlyAccess"),
    ("users create x", "required: --role"),
    ("directory add", "required: KEY-ID"),
    ("directory add AKIAX", "--user --root is required"),
    (
        "directory add AKIAX --user a --account 1 --data-dir data",
        "--account",
        "an account has 12 digits",
    ),
    ("directory remove AKIAX --data-dir data", "'AKIAX' not found", "opentrail directory list"),
    # Care
    ("status --data-dir gone", "no server runs on data directory gone"),
    ("verify-store --data-dir full", "full is not a data directory", "--data-dir DIR"),
    ("backup b.tar --data-dir full", "full is not a data directory", "--data-dir DIR"),
    ("backup text --data-dir stored", "text exists", "--overwrite"),
    ("backup b.tar --with-keys --data-dir stored", "OPENTRAIL_BACKUP_PASSPHRASE"),
    ("restore gone.tar", "no backup gone.tar"),
    ("restore text", "text is not a backup"),
    ("restore text --data-dir full", "full is not empty", "--data-dir DIR"),
    ("help fly", "no command 'fly'", "known are serve"),
    ("completion tcsh", "'tcsh'", "fish"),
    ("fly", "unknown command 'fly'", "'opentrail help' lists them"),
    ("", "required: COMMAND"),
)


@pytest.fixture
def folder(empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (empty_folder / "text").write_text("not what it should be")
    (empty_folder / "unknown.toml").write_text('colour = "red"\n')
    (empty_folder / "nameless.toml").write_text("[directory.AKIAX]\n")
    (empty_folder / "broken.json").write_text("{")
    statement = '{"Effect": "Maybe", "Action": "*", "Resource": "*"}'
    document = f'{{"Version": "2012-10-17", "Statement": [{statement}]}}'
    (empty_folder / "wrong.json").write_text(document)
    (empty_folder / "full").mkdir()
    (empty_folder / "full" / "file").write_text("precious")
    (empty_folder / "data").mkdir(mode=0o700)
    (empty_folder / "stored" / "journal").mkdir(parents=True)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    return empty_folder


@pytest.mark.parametrize(("typed", "named"), [(m[0], m[1:]) for m in MISTAKES])
def test_a_mistake_is_explained(
    folder: Path, typed: str, named: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    try:
        code: object = main(shlex.split(typed))
    except SystemExit as ended:  # argparse's own
        code = ended.code
    said = capsys.readouterr()
    assert code == 2
    assert said.out == ""
    assert "Traceback" not in said.err
    assert [text for text in named if text not in said.err] == []
    assert (folder / "full" / "file").read_text() == "precious"
    assert (folder / "text").read_text() == "not what it should be"
    assert not (folder / "opentrail-data").exists()


def test_the_table_has_enough_mistakes() -> None:
    assert len(MISTAKES) >= 120
