"""The command line: argparse in, exit codes out."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from opentrail.core.errors import OpentrailError, StorageFailed, UsageError
from opentrail.version import __version__

if TYPE_CHECKING:
    from opentrail.app.server import Server
    from opentrail.settings import Settings

#: Part of the record of a caller with an unknown access key.
_UNKNOWN_CALLER = '"userIdentity":{"type":"Unknown"'
_NAMING = (
    'name access keys in the file given by --config: [directory.ACCESS-KEY-ID] with user = "NAME"'
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    _open_closed_streams()
    try:
        try:
            options = parser().parse_args(arguments)
            return int(options.run(options))
        finally:
            sys.stdout.flush()
    except OpentrailError as error:
        print(f"opentrail: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        named = f"{error.filename}: " if error.filename else "output cannot be written: "
        print(f"opentrail: {named}{error.strerror or error}", file=sys.stderr)
        return StorageFailed.exit_code
    except KeyboardInterrupt:
        return 130


def _open_closed_streams() -> None:
    """Opens standard streams that were closed, so that a write to them has a clear error."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDONLY), number)
                setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _discard_output() -> None:
    """Discards pending output, so that the exit does not fail again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    root = argparse.ArgumentParser(
        prog="opentrail", description="Records every call to an AWS-compatible endpoint."
    )
    root.add_argument("--version", action="version", version=f"opentrail {__version__}")
    commands = root.add_subparsers(required=True, metavar="COMMAND")
    _add_serve(commands, "serve", _serve, "record calls on their way to an upstream")
    _add_serve(commands, "sandbox", _sandbox, "serve, with a built-in moto upstream")
    _add_lookup(commands)
    _add_who(commands)
    _add_insights(commands)
    _add_tail(commands)
    _add_import(commands)
    _add_export(commands)
    _add_trail(commands)
    _add_validate(commands)
    _add_console(commands)
    _add_keys(commands)
    _add_policies(commands)
    _add_users(commands)
    _add_status(commands)
    _add_verify_store(commands)
    return root


def _add_serve(commands: Any, name: str, run: Any, text: str) -> None:
    serve = commands.add_parser(name, help=text, description=text)
    serve.set_defaults(run=run)
    add = serve.add_argument
    add("--data-dir", metavar="DIR", help="folder with all data (./opentrail-data)")
    add("--listen", metavar="HOST:PORT", help="the AWS endpoint (127.0.0.1:4747)")
    add("--console-listen", metavar="HOST:PORT", help="health and API (127.0.0.1:4748)")
    add("--upstream", metavar="[SERVICE=]URL", action="append", help="where calls go; repeatable")
    add("--upstream-timeout", metavar="SECONDS", help="longest silence of an upstream (910)")
    add("--config", metavar="FILE", help="TOML file with settings")
    logs, digests = ("10", "60") if name == "sandbox" else ("300", "3600")
    add("--delivery-interval", metavar="SECONDS", help=f"between log files ({logs})")
    add("--digest-interval", metavar="SECONDS", help=f"between digest files ({digests})")
    add("--history-retention-days", metavar="N", help="days that event history shows (90)")
    add("--signing-key-days", metavar="N", help="how long a key signs digests (90)")
    add("--trails-per-region", metavar="N", help="maximum trails in a Region (5, as on AWS)")
    add("--bucket-policy-check", metavar="MODE", help="permissive (default) or enforced, as AWS")
    asked = "upstream (default) or off" if name == "sandbox" else "off (default) or upstream"
    add("--organization", metavar="MODE", help=f"accounts of organization trails: {asked}")
    add("--event-bridge", metavar="MODE", help="auto (default): rules get events; or off")
    add("--insights", metavar="MODE", help="on (default): record unusual activity; or off")
    add("--insights-preset", metavar="NAME", help="balanced (default), strict or aws")
    add("--insights-types", metavar="NAMES", help="types about principals to record, or all")
    add("--history-seal-records", metavar="N", help="records in one sealed file (120000)")
    add("--tls-certificate", metavar="FILE", help="PEM certificate: both ports speak TLS")
    add("--tls-key", metavar="FILE", help="PEM key of the certificate")
    add("--rewrite-urls", metavar="MODE", help="scheme: URLs in answers are https; off (default)")
    add("--upstream-ca", metavar="FILE", help="PEM authorities of https upstreams")
    add("--trusted-proxies", metavar="NETWORKS", help="whose X-Forwarded-For counts: 10.0.0.0/8,…")
    add("--auth", metavar="MODE", help="permissive (default) or enforced: verify signatures")
    add("--unknown-keys", metavar="MODE", help="with enforced: forward (default) or refuse")
    add("--oidc-issuer", metavar="URL", help="provider by which users sign in to the console")
    add("--oidc-client-id", metavar="ID", help="this server's client id at the provider")
    add("--oidc-role-claim", metavar="NAME", help="claim that gives a user's role (roles)")
    add(
        "--control-store", metavar="URL", help="sqlite (default) or postgresql://USER@HOST/DATABASE"
    )
    add("--on-record-failure", metavar="MODE", help="refuse (default) or allow")
    add("--recorders", metavar="N", help="recorder processes (1)")
    if name == "sandbox":
        add(
            "--s3",
            metavar="STORE",
            help="moto (default) or seaweedfs, whose data outlive a restart",
        )


def _add_client(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data-dir", metavar="DIR", help="data directory of the server")
    parser.add_argument("--endpoint", metavar="URL", help="console address of the server")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _add_lookup(commands: Any) -> None:
    text = "find events, newest first"
    lookup = commands.add_parser("lookup", help=text, description=text)
    lookup.set_defaults(run=_lookup)
    _add_conditions(lookup)
    lookup.add_argument("--limit", metavar="N", default="50", help="maximum number of events (50)")
    lookup.add_argument("--csv", action="store_true", help="print CSV")
    _add_client(lookup)


def _add_conditions(parser: argparse.ArgumentParser, with_times: bool = True) -> None:
    add = parser.add_argument
    add(
        "expression",
        nargs="?",
        metavar="EXPRESSION",
        help="such as 'eventName=Create* AND NOT user=admin last 2h'",
    )
    if with_times:
        add("--since", metavar="T", help="from this time on, 2020-01-01T09:00:00Z")
        add("--until", metavar="T", help="up to this time")
    add("--account", metavar="ID", help="account (123456789012)")
    add("--region", metavar="REGION", help="Region (AWS_REGION, else us-east-1)")
    add("--all-accounts", action="store_true", help="of every account")
    add("--all-regions", action="store_true", help="of every Region")
    add("--all-categories", action="store_true", help="data events too")


def _add_tail(commands: Any) -> None:
    text = "show events as they are recorded"
    more = "Continues by itself when the server is restarted; Ctrl-C ends it."
    tail = commands.add_parser("tail", help=text, description=f"{text}. {more}")
    tail.set_defaults(run=_tail)
    _add_conditions(tail, with_times=False)
    tail.add_argument("--last", metavar="N", help="start with the last N events that match")
    tail.add_argument("--after", metavar="POSITION", help="start after this position")
    tail.add_argument(
        "--resume", metavar="FILE", help="store the position in FILE, and continue from it"
    )
    tail.add_argument("--csv", action="store_true", help="print CSV")
    _add_client(tail)


def _add_export(commands: Any) -> None:
    text = "write events to files, newest first"
    more = "Each file is written atomically; a file _SUCCESS at the end marks a complete export."
    export = commands.add_parser("export", help=text, description=f"{text}. {more}")
    export.set_defaults(run=_export)
    _add_conditions(export)
    kinds = export.add_mutually_exclusive_group(required=True)
    kinds.add_argument("--parquet", metavar="DIR", help="Parquet: typed columns and the record")
    kinds.add_argument("--ndjson", metavar="DIR", help="the exact records, one on each line")
    kinds.add_argument("--csv", metavar="DIR", help="CSV: the same columns as Parquet")
    export.add_argument(
        "--overwrite", action="store_true", help="replace the files of an earlier export"
    )
    _add_client(export)


def _add_who(commands: Any) -> None:
    text = "find out who created, changed and deleted a resource, when, and by which method"
    who = commands.add_parser("who", help=text, description=text)
    who.set_defaults(run=_who)
    who.add_argument(
        "resource", metavar="RESOURCE", help="name, ARN, or name with type: Mary, user/Mary"
    )
    who.add_argument("--type", metavar="TYPE", help="only of this type: user, AWS::IAM::User")
    who.add_argument("--account", metavar="ID", help="only of this account")
    _add_client(who)


#: What `opentrail insights` does; the first is the default.
_INSIGHTS = ("list", "show", "expected", "scan", "status")


def _add_console(commands: Any) -> None:
    text = "print a link that opens the web console"
    more = "It is good once, for ten minutes, in a browser on the server's machine."
    console = commands.add_parser("console", help=text, description=f"{text}. {more}")
    console.set_defaults(run=_console)
    _add_client(console)


def _add_users(commands: Any) -> None:
    text = "manage the users of the web console"
    users = commands.add_parser("users", help=text, description=text)
    actions = users.add_subparsers(required=True, metavar="ACTION")

    def add(name: str, text: str) -> argparse.ArgumentParser:
        action: argparse.ArgumentParser = actions.add_parser(name, help=text, description=text)
        action.set_defaults(run=_users, action=name)
        if name != "list":
            action.add_argument("name", metavar="NAME", help="name of the user")
        _add_client(action)
        return action

    create = add("create", "create a user, and print a password for the first sign-in")
    create.add_argument(
        "--role", metavar="ROLE", required=True, help="viewer, auditor, operator or admin"
    )
    create.add_argument("--accounts", metavar="IDS", help="only these accounts: ID,ID")
    add("list", "list users")
    add("disable", "refuse a user until it is enabled, and end its sessions")
    add("enable", "accept a user again")
    add("delete", "delete a user, and end its sessions")
    add("reset-password", "print a password for the next sign-in, and end the user's sessions")


def _add_insights(commands: Any) -> None:
    text = "list unusual activity, or show one incident"
    more = "An incident is an API whose calls or errors are far more, or fewer, than usual."
    insights = commands.add_parser("insights", help=text, description=f"{text}. {more}")
    insights.set_defaults(run=_insights)
    add = insights.add_argument
    add("action", nargs="?", choices=_INSIGHTS, default="list", help=", ".join(_INSIGHTS))
    add(
        "id",
        nargs="?",
        metavar="ID",
        help="incident to show or to mark; the beginning of its id suffices",
    )
    add("--since", metavar="T", help="from this time on, 2020-01-01T09:00:00Z")
    add("--until", metavar="T", help="up to this time")
    add("--account", metavar="ID", help="only of this account")
    add("--region", metavar="REGION", help="only of this Region")
    add("--limit", metavar="N", default="50", help="maximum number of incidents (50)")
    add("--events", action="store_true", help="with show: print the calls of the incident")
    add("--note", metavar="TEXT", help="with expected: why the activity was expected")
    _add_client(insights)


def _add_import(commands: Any) -> None:
    text = "import records that CloudTrail or other tools wrote"
    more = (
        "The format is detected: log files, NDJSON, LookupEvents output and EventBridge envelopes,"
        " compressed or not. Events that were imported before are recognized by their ids."
    )
    importing = commands.add_parser("import", help=text, description=f"{text}. {more}")
    importing.set_defaults(run=_import)
    importing.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="file, folder, s3://BUCKET/PREFIX, or - for standard input",
    )
    importing.add_argument("--rejected", metavar="FILE", help="write every rejected line, as JSON")
    _add_client(importing)


def _add_trail(commands: Any) -> None:
    trail = commands.add_parser("trail", help="work on trails", description="work on trails")
    actions = trail.add_subparsers(required=True, metavar="ACTION")
    text = "deliver a trail's events and sign its digests now"
    flush = actions.add_parser("flush", help=text, description=text)
    flush.set_defaults(run=_flush)
    flush.add_argument("name", metavar="NAME", help="name or ARN of the trail")
    _add_client(flush)


def _add_validate(commands: Any) -> None:
    text = "validate the log files and digest files of a trail"
    more = (
        "A trail by its name or ARN, its bucket, or a copy of the bucket in a folder; several are"
        " searched in order. Exit codes: 0 good, 1 not good, 5 cannot be decided."
    )
    validate = commands.add_parser("validate", help=text, description=f"{text}. {more}")
    validate.set_defaults(run=_validate)
    add = validate.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="TRAIL, s3://BUCKET/PREFIX, or FOLDER")
    add("--since", metavar="T", help="from this time on, 2020-01-01T09:00:00Z")
    add("--until", metavar="T", help="up to this time")
    add("--account", metavar="ID", action="append", help="only this account; repeatable")
    add("--region", metavar="REGION", action="append", help="only this Region; repeatable")
    add("--trail", metavar="NAME", action="append", help="only this trail; repeatable")
    add("--keys", metavar="FILE", help="trust these keys: aws cloudtrail list-public-keys > FILE")
    add("--signatures", metavar="FILE", help="signatures of digest files, for a copy of a bucket")
    add(
        "--checkpoint",
        metavar="FILE",
        help="compare with the digests in FILE, then update it",
    )
    add("--export", metavar="DIR", help="copy all that is read to DIR, to validate it again")
    _add_client(validate)


def _add_keys(commands: Any) -> None:
    text = "create and manage the access keys of the key directory"
    keys = commands.add_parser("keys", help=text, description=text)
    actions = keys.add_subparsers(required=True, metavar="ACTION")

    def add(action: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(action, help=text, description=text)
        parser.set_defaults(run=_keys, action=action)
        return parser

    def add_principal(parser: argparse.ArgumentParser) -> None:
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--user", metavar="NAME", help="key of this IAM user")
        whose.add_argument("--root", action="store_true", help="key of the account's root user")
        whose.add_argument("--principal", metavar="ARN", help="key of this user or role session")
        parser.add_argument("--account", metavar="ID", help="account (123456789012)")

    create = add("create", "create an access key; its secret is shown once")
    add_principal(create)
    create.add_argument(
        "--lifetime", metavar="TIME", help="a temporary key, with a session token: 12h"
    )
    create.add_argument(
        "--policy",
        metavar="NAME|FILE",
        action="append",
        help="attach this policy to the user; repeatable",
    )
    importing = add("import", "add a key made elsewhere; its secret is read from standard input")
    importing.add_argument("key", metavar="KEY-ID", help="the access key id")
    add_principal(importing)
    importing.add_argument(
        "--session-token", action="store_true", help="read the session token from the second line"
    )
    importing.add_argument("--expires", metavar="T", help="until this time, 2030-01-01T00:00:00Z")
    listing = add("list", "list the access keys, without their secrets")
    listing.add_argument("--account", metavar="ID", help="only of this account")
    listing.add_argument("--principal", metavar="ARN", help="only of this principal")
    rotate = add("rotate", "create another key of the same principal, and disable the old one")
    rotate.add_argument("--overlap", metavar="TIME", help="accept the old key for so long: 24h")
    others = {
        "disable": "refuse the signatures of a key",
        "enable": "accept the signatures of a key again",
        "delete": "remove a key",
    }
    for parser in (rotate, *(add(action, text) for action, text in others.items())):
        parser.add_argument("key", metavar="KEY-ID", help="the access key id")
    for parser in actions.choices.values():
        parser.add_argument("--config", metavar="FILE", help="settings, if no server runs")
        _add_client(parser)


def _add_policies(commands: Any) -> None:
    text = "manage what users and roles may do with the CloudTrail API"
    more = "Policies count with --auth enforced. A FILE.json has the document of the policy FILE."
    policies = commands.add_parser("policies", help=text, description=f"{text}. {more}")
    actions = policies.add_subparsers(required=True, metavar="ACTION")

    def add(action: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = actions.add_parser(action, help=text, description=text)
        parser.set_defaults(run=_policies, action=action)
        return parser

    texts = {
        "put": "create or replace a policy",
        "show": "print the document of a policy",
        "delete": "remove a policy that is not attached",
    }
    for action, text in texts.items():
        named = "FILE.json" if action == "put" else "NAME"
        add(action, text).add_argument("policy", metavar=named, help="the policy")
    for action, text in (
        ("attach", "attach a policy to a user or role"),
        ("detach", "detach a policy from a user or role"),
    ):
        parser = add(action, text)
        parser.add_argument("policy", metavar="NAME|FILE", help="the policy")
        whose = parser.add_mutually_exclusive_group(required=True)
        whose.add_argument("--user", metavar="NAME", help="this IAM user")
        whose.add_argument("--principal", metavar="ARN", help="this user or role")
    add("list", "list policies, and what they are attached to")
    for parser in actions.choices.values():
        parser.add_argument("--account", metavar="ID", help="account (123456789012)")
        parser.add_argument("--config", metavar="FILE", help="settings, if no server runs")
        _add_client(parser)


def _add_status(commands: Any) -> None:
    text = "show whether a server is healthy, and what it has lost"
    status = commands.add_parser(
        "status", help=text, description=f"{text}. Exit code 1: it is not."
    )
    status.set_defaults(run=_status)
    _add_client(status)


def _add_verify_store(commands: Any) -> None:
    text = "verify every record in a data directory"
    more = (
        "Compares each record of the journal with its hash chain, and each sealed file of event"
        " history with its hash. A server may be running. Exit codes: 0 good, 1 not good."
    )
    verify = commands.add_parser("verify-store", help=text, description=f"{text}. {more}")
    verify.set_defaults(run=_verify_store)
    verify.add_argument("--data-dir", metavar="DIR", help="the data directory")
    verify.add_argument("--json", action="store_true", help="print JSON")


# Servers


def _serve(options: argparse.Namespace) -> int:
    from opentrail.app.server import serve

    serve(_settings(options), _announce_serve)
    return 0


def _sandbox(options: argparse.Namespace) -> int:
    from opentrail.app.server import serve
    from opentrail.commands.sandbox import (
        ADMIN,
        ADMIN_KEY_ID,
        ADMIN_SECRET,
        start_moto,
        start_seaweedfs,
    )
    from opentrail.settings import SANDBOX_DEFAULTS, UpstreamAccess

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
        serve(settings, announce, remake_buckets=not lasting, admin=admin)
    return 0


def _settings(options: argparse.Namespace, defaults: Settings | None = None) -> Settings:
    from opentrail.settings import Settings, from_environment

    return from_environment(vars(options), options.config, defaults or Settings())


def _announce(server: Server, notes: Sequence[str] = ()) -> None:
    print(f"opentrail {__version__} records calls on {server.endpoint_url}")
    print(f"  console  {server.console_link()}")
    for note in notes:
        print(f"  {note}")
    print(f"  data     {server.settings.data_dir.resolve()}", flush=True)


def _announce_serve(server: Server) -> None:
    unnamed = f"callers  unknown unless recorded calls made their keys; {_NAMING}"
    _announce(server, () if server.settings.directory else (unnamed,))


def _announce_sandbox(server: Server, has_history: bool) -> None:
    from opentrail.commands.sandbox import ADMIN_KEY_ID, ADMIN_SECRET

    forgotten = (
        "sandbox  events of earlier runs remain, but the users, keys, topics and other resources"
        " of moto are gone"
    )
    _announce(server, (forgotten,) if has_history else ())
    print("\nPaste this into another terminal, then use aws-cli or any SDK as always:\n")
    print(f"export AWS_ENDPOINT_URL={server.endpoint_url}")
    print(f"export AWS_ACCESS_KEY_ID={ADMIN_KEY_ID}")
    print(f"export AWS_SECRET_ACCESS_KEY={ADMIN_SECRET}")
    print("export AWS_DEFAULT_REGION=us-east-1\n", flush=True)


# Commands that need a server


def _conditions(options: argparse.Namespace) -> dict[str, str | None]:
    """Returns the query of a search, with defaults for what flags and expression do not set."""
    query = {
        "expression": options.expression,
        "since": vars(options).get("since"),
        "until": vars(options).get("until"),
        "limit": vars(options).get("limit"),
        "account": None if options.all_accounts else options.account,
        "region": None if options.all_regions else options.region,
        "categories": "all",
    }
    return {**query, **_defaults(options)}


def _defaults(options: argparse.Namespace) -> dict[str, str | None]:
    """Returns the conditions that neither a flag nor the expression sets."""
    from opentrail.core.identity import DEFAULT_ACCOUNT

    own_region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    usual = {"account": DEFAULT_ACCOUNT, "region": own_region or "us-east-1", "categories": None}
    flags = {
        "account": options.account or options.all_accounts,
        "region": options.region or options.all_regions,
        "categories": options.all_categories,
    }
    given = {name for name, flag in flags.items() if flag} | _named_in(options.expression)
    return {name: value for name, value in usual.items() if name not in given}


def _named_in(expression: str | None) -> set[str]:
    """Returns the conditions with defaults that an expression sets itself."""
    from datetime import UTC, datetime

    from opentrail.core.expression import ExpressionError, fields_in, parse

    try:
        fields = fields_in(parse(expression or "", datetime.now(UTC)))
    except ExpressionError:
        return set()  # the server reports the error
    conditions = {"account": "account", "region": "region", "category": "categories"}
    return {conditions[field] for field in fields if field in conditions}


def _lookup(options: argparse.Namespace) -> int:
    _require_one_form(options)
    from opentrail.commands.client import ask
    from opentrail.commands.rendering import (
        print_csv,
        print_events,
        print_records,
        warn_of_hidden,
        warn_of_missing,
    )

    query = {**_conditions(options), "defaults": ",".join(_defaults(options)) or None}
    answer = ask(options, "/api/v1/events", query)
    events = answer["events"]
    warn_of_missing(answer)
    if options.json:
        print_records(events)
    elif options.csv:
        print_csv(events)
    else:
        print_events(events)
    warn_of_hidden(answer)
    if any(_UNKNOWN_CALLER in event["CloudTrailEvent"] for event in events):
        _print_naming_hint()
    return 0


def _require_one_form(options: argparse.Namespace) -> None:
    if options.json and options.csv:
        raise UsageError("--json and --csv exclude each other")


def _print_naming_hint() -> None:
    print(f"some callers are unknown to the server; {_NAMING}", file=sys.stderr)


def _who(options: argparse.Namespace) -> int:
    from opentrail.commands.client import ask
    from opentrail.commands.rendering import print_answer, warn_of_missing

    query = {"resource": options.resource, "type": options.type, "account": options.account}
    answer = ask(options, "/api/v1/who", query)
    warn_of_missing(answer)
    if options.json:
        print(json.dumps(answer))
    else:
        print_answer(answer, options.resource)
    if "an unknown caller" in (answer["sentence"] or ""):
        _print_naming_hint()
    return 0 if answer["sentence"] else 1


def _insights(options: argparse.Namespace) -> int:
    needs_id = options.action in ("show", "expected")
    if needs_id and not options.id:
        text = f"insights {options.action} needs the ID of an incident; 'opentrail insights' has it"
        raise UsageError(text)
    if options.id and not needs_id:
        raise UsageError("an ID is for 'opentrail insights show ID' or 'expected ID'")
    if options.events and options.action != "show":
        raise UsageError("--events is for 'opentrail insights show ID'")
    if options.action == "scan" and not options.since:
        raise UsageError("insights scan needs --since T, the first time to look at")
    if options.note is not None and options.action != "expected":
        raise UsageError("--note is for 'opentrail insights expected ID'")
    from opentrail.commands import insights

    run = {
        "list": insights.list_incidents,
        "show": insights.show_incident,
        "expected": insights.mark_expected,
        "scan": insights.scan,
        "status": insights.show_status,
    }
    return run[options.action](options)


def _tail(options: argparse.Namespace) -> int:
    _require_one_form(options)
    from opentrail.commands.tail import run

    return run(options, _conditions(options))


def _export(options: argparse.Namespace) -> int:
    from opentrail.commands.export import run

    return run(options, _conditions(options))


def _import(options: argparse.Namespace) -> int:
    from opentrail.commands.import_files import run

    return run(options)


def _validate(options: argparse.Namespace) -> int:
    from opentrail.commands.validate import run

    return run(options)


def _console(options: argparse.Namespace) -> int:
    from opentrail.commands.client import ask

    link = ask(options, "/api/v1/console-links", {}, {})
    print(json.dumps(link) if options.json else link["url"])
    return 0


def _keys(options: argparse.Namespace) -> int:
    from opentrail.commands.keys import run

    return run(options)


def _policies(options: argparse.Namespace) -> int:
    from opentrail.commands.policies import run

    return run(options)


def _users(options: argparse.Namespace) -> int:
    from opentrail.commands.users import run

    return run(options)


def _status(options: argparse.Namespace) -> int:
    from opentrail.commands.client import find
    from opentrail.commands.rendering import print_status

    health = find(options).health()
    if options.json:
        print(json.dumps(health))
    else:
        print_status(health)
    return 0 if health["status"] == "ok" else 1


def _verify_store(options: argparse.Namespace) -> int:
    from opentrail.commands.verify_store import run

    return run(options)


def _flush(options: argparse.Namespace) -> int:
    from opentrail.commands.client import ask

    done = ask(options, "/api/v1/trails/flush", {}, {"name": options.name})
    if options.json:
        print(json.dumps(done))
        return 0
    logs, digests = len(done["logFiles"]), len(done["digestFiles"])
    print(f"{done['trail']}: {logs} log files and {digests} digest files delivered")
    return 0
