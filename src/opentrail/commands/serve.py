"""`opentrail serve` and `opentrail sandbox`: start a server."""

from __future__ import annotations

import argparse
import contextlib
import gc
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from opentrail.commands.rendering import NAMING
from opentrail.commands.sandbox import (
    ADMIN,
    ADMIN_KEY_ID,
    ADMIN_SECRET,
    start_moto,
    start_seaweedfs,
)
from opentrail.core.errors import UsageError
from opentrail.settings import SANDBOX_DEFAULTS, Settings, UpstreamAccess, from_environment
from opentrail.version import __version__

if TYPE_CHECKING:
    from opentrail.app.server import Server
    from opentrail.app.upstream_check import UpstreamCheck

#: Flags of a server in groups: name, placeholder and help, in which `{d.…}` is a default.
_FLAGS = {
    "addresses and upstreams": (
        ("--listen", "HOST:PORT", "the AWS endpoint ({d.listen.host}:{d.listen.port})"),
        (
            "--console-listen",
            "HOST:PORT",
            "health and API ({d.console_listen.host}:{d.console_listen.port})",
        ),
        ("--console-url", "URL", "address of the console behind a TLS proxy: https://HOST"),
        ("--upstream", "[SERVICE=]URL", "where calls go; repeatable"),
        (
            "--upstream-timeout",
            "SECONDS",
            "timeout of an upstream ({d.upstream_timeout:g})",
        ),
        ("--upstream-check", "MODE", "on (default): check upstreams at the start; or off"),
        ("--upstream-ca", "FILE", "PEM file with the authorities of https upstreams"),
        ("--trusted-proxies", "NETWORKS", "proxies whose X-Forwarded-For counts: 10.0.0.0/8,…"),
        (
            "--insecure-trusted-networks",
            "NETWORKS",
            "private networks that may call without --auth enforced and TLS",
        ),
        ("--tls-certificate", "FILE", "PEM certificate; both ports then use TLS"),
        ("--tls-key", "FILE", "PEM key of the certificate"),
    ),
    "callers and users": (
        ("--auth", "MODE", "permissive (default) or enforced: verify signatures"),
        ("--unknown-keys", "MODE", "with enforced: forward (default) or refuse"),
        ("--oidc-issuer", "URL", "OpenID Connect provider for the console's users"),
        ("--oidc-client-id", "ID", "this server's client id at the provider"),
        ("--oidc-role-claim", "NAME", "claim that gives a user's role ({d.oidc_role_claim})"),
        ("--oidc-accounts-claim", "NAME", "claim with the accounts that a user may see"),
    ),
    "data": (
        ("--data-dir", "DIR", "folder with all data (./{d.data_dir})"),
        ("--config", "FILE", "TOML file with settings"),
        ("--control-store", "URL", "sqlite (default) or postgresql://USER@HOST/DATABASE"),
        ("--journal", "URL", "sqlite (default) or postgresql://USER@HOST/DATABASE"),
        ("--files", "s3://…", "history files that several servers share, in S3"),
        ("--history-cache", "SIZE", "local cache of these files, such as 20GB (all)"),
        ("--role", "ROLE", "role in a cluster: all, recorder, worker or query"),
        ("--recorders", "N", "recorder processes ({d.recorders})"),
        ("--record", "SELECTORS", "all (default), or a JSON file of event selectors"),
        (
            "--leave-out-management-events",
            "MODE",
            "off (default) or on: --record may leave them out",
        ),
        ("--on-record-failure", "MODE", "refuse (default) or allow"),
        (
            "--history-retention-days",
            "N",
            "days that event history shows ({d.history_retention_days})",
        ),
        ("--data-event-days", "N", "the same for data events (--history-retention-days)"),
        ("--history-size", "SIZE", "disk space for records, such as 50GB (no limit)"),
        ("--disk-full-expiry", "MODE", "what expires on a full disk: data (default), all or off"),
        ("--history-seal-records", "N", "records per sealed file ({d.history_seal_records})"),
    ),
    "trails": (
        ("--delivery-interval", "SECONDS", "time between log files ({d.delivery_interval:g})"),
        ("--digest-interval", "SECONDS", "time between digest files ({d.digest_interval:g})"),
        ("--signing-key-days", "N", "lifetime of a signing key ({d.signing_key_days})"),
        (
            "--trails-per-region",
            "N",
            "maximum trails in a Region ({d.trails_per_region}, as on AWS)",
        ),
        ("--bucket-policy-check", "MODE", "permissive (default) or enforced, as AWS"),
        ("--organization", "MODE", "accounts of organization trails: {organization}"),
        ("--event-bridge", "MODE", "auto (default): rules get events; or off"),
        ("--otlp-endpoint", "URL", "OpenTelemetry collector for all events, as logs"),
        ("--otlp-body", "FORM", "body of these logs: record (default), ocsf, or none"),
    ),
    "unusual activity": (
        ("--insights", "MODE", "on (default): record unusual activity; or off"),
        ("--insights-preset", "NAME", "balanced (default), strict or aws"),
        ("--insights-types", "NAMES", "types about principals to record, or all"),
        ("--detections-webhook", "URL", "webhook for matches of detections"),
        (
            "--detections-webhook-networks",
            "NETWORKS",
            "private networks that the webhook may be in",
        ),
        (
            "--detections-webhook-form",
            "FORM",
            "opentrail (default), slack, teams, pagerduty or alertmanager",
        ),
        ("--detections-webhook-insights", "MODE", "off (default); on: it gets insights, too"),
    ),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_flags(parser, Settings(), "off (default) or upstream")
    parser.set_defaults(run=run)


def add_sandbox_arguments(parser: argparse.ArgumentParser) -> None:
    _add_flags(parser, SANDBOX_DEFAULTS, "upstream (default) or off")
    parser.add_argument(
        "--s3",
        metavar="STORE",
        help="moto (default) or seaweedfs, which keeps data across restarts",
    )
    parser.set_defaults(run=run_sandbox)


def _add_flags(parser: argparse.ArgumentParser, defaults: Settings, organization: str) -> None:
    for title, flags in _FLAGS.items():
        group = parser.add_argument_group(title)
        for flag, metavar, text in flags:
            action = "append" if flag == "--upstream" else "store"
            description = text.format(d=defaults, organization=organization)
            group.add_argument(flag, metavar=metavar, action=action, help=description)


def run(options: argparse.Namespace) -> int:
    """Records calls until it is stopped."""
    settings = _settings(options)
    from opentrail.app.upstream_check import UpstreamCheck  # as slow to load as the server

    check = UpstreamCheck(settings) if settings.upstream_check == "on" else None
    _serve(settings, partial(_announce_serve, check))
    return 0


def _serve(settings: Settings, when_ready: Callable[[Server], None], **options: Any) -> None:
    """Loads the server and runs it; loading takes half a second, so settings are checked first."""
    gc.disable()  # until it is ready: loading makes objects that stay
    from opentrail.app.server import serve
    from opentrail.app.wings.register import WINGS

    serve(settings, WINGS, when_ready, **options)


def run_sandbox(options: argparse.Namespace) -> int:
    """Records calls in front of a built-in upstream until it is stopped."""
    if options.s3 not in (None, "moto", "seaweedfs"):
        raise UsageError(f"--s3 must be one of moto, seaweedfs, not {options.s3!r}")
    settings = _settings(options, SANDBOX_DEFAULTS)
    if not settings.listen.is_loopback:
        raise UsageError("the sandbox is for this machine alone; 'opentrail serve' has --upstream")
    directory = {ADMIN_KEY_ID: ADMIN, **settings.directory}
    journal = settings.data_dir / "journal"
    has_history = journal.is_dir() and any(journal.iterdir())
    lasting = bool({"s3", ""} & settings.upstream.keys())
    with contextlib.ExitStack() as stack:
        moto = start_moto()
        stack.callback(moto.stop)
        settings = replace(settings, directory=directory)
        upstream = {"": moto.url, **settings.upstream}
        if options.s3 == "seaweedfs":
            access = UpstreamAccess(ADMIN_KEY_ID, ADMIN_SECRET)
            seaweed = start_seaweedfs(settings.data_dir / "seaweedfs")
            stack.callback(seaweed.stop)
            upstream["s3"] = seaweed.url
            settings = replace(settings, access={**settings.access, "s3": access})
            lasting = True
        settings = replace(settings, upstream=upstream)
        announce = partial(_announce_sandbox, has_history=has_history)
        admin = (ADMIN_KEY_ID, ADMIN_SECRET)
        _serve(settings, announce, remake_buckets=not lasting, admin=admin)
    return 0


def _settings(options: argparse.Namespace, defaults: Settings | None = None) -> Settings:
    return from_environment(vars(options), options.config, defaults or Settings())


def _announce(server: Server, notes: Sequence[str] = ()) -> None:
    print(f"opentrail {__version__} records calls on {server.endpoint_url}")
    print(f"  console  {server.console_link()}")
    print("           (works once, within ten minutes; 'opentrail console' prints another)")
    for note in notes:
        print(f"  {note}")
    print(f"  data     {server.settings.data_dir.resolve()}", flush=True)


def _announce_serve(check: UpstreamCheck | None, server: Server) -> None:
    notes = [f"upstream {line}" for line in check.lines()] if check else []
    if trusted := ", ".join(server.settings.insecure_trusted_networks):
        notes.append(f"INSECURE hosts in {trusted} may call as any user, without TLS")
    if server.callers is not None and (default := server.callers.default) is not None:
        notes.append(f"callers  as the upstream names them; by default {default.arn}")
    elif not server.settings.directory:
        notes.append(f"callers  unknown unless recorded calls made their keys; {NAMING}")
    _announce(server, notes)
    print(f"\nexport AWS_ENDPOINT_URL={server.endpoint_url}")
    for line in (*_emulator_keys(server.settings), *_exports(server)):
        print(line)
    print(flush=True)


def _emulator_keys(settings: Settings) -> Iterator[str]:
    """Yields the lines with which a terminal finds the keys of an AWS Emulator behind a server."""
    from opentrail.app.access import emulator_of

    emulator = emulator_of(settings, "")
    if emulator is not None and emulator.is_there:
        yield f"export AWS_SHARED_CREDENTIALS_FILE={shlex.quote(str(emulator.credentials))}"
        yield f"export AWS_CONFIG_FILE={shlex.quote(str(emulator.config))}"


def _exports(server: Server) -> Iterator[str]:
    """Yields the lines with which a terminal finds the server's data and commands."""
    yield f"export OPENTRAIL_DATA_DIR={shlex.quote(str(server.settings.data_dir.resolve()))}"
    commands = _own_commands()
    if commands is not None:
        yield f'export PATH={shlex.quote(str(commands))}:"$PATH"'


def _own_commands() -> Path | None:
    """Returns the folder of the command `opentrail`, unless a terminal finds it already."""
    own = Path(sys.prefix) / "commands"  # made by scripts/set_up.sh: without this `python`
    folder = own if own.is_dir() else Path(sys.executable).parent
    program = folder / "opentrail"
    program_on_path = shutil.which("opentrail")
    is_found = program_on_path is not None and Path(program_on_path).resolve() == program.resolve()
    return None if is_found or not program.exists() else folder


def _announce_sandbox(server: Server, has_history: bool) -> None:
    forgotten = (
        "sandbox  events of earlier runs remain, but the users, keys, topics and other resources"
        " of moto are gone"
    )
    notes = [forgotten] if has_history else []
    folder = _own_commands()
    if folder is not None and (folder / "aws").exists():
        notes.append(f"aws-cli  is in {folder}, which the last line below adds to PATH")
    _announce(server, notes)
    print("\nPaste this into another terminal, then use aws-cli or any SDK as always:\n")
    print(f"export AWS_ENDPOINT_URL={server.endpoint_url}")
    print(f"export AWS_ACCESS_KEY_ID={ADMIN_KEY_ID}")
    print(f"export AWS_SECRET_ACCESS_KEY={ADMIN_SECRET}")
    print("export AWS_DEFAULT_REGION=us-east-1")
    for line in _exports(server):
        print(line)
    print(flush=True)
