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
from opentrail.core.selectors.selection import Selection
from opentrail.core.version import __version__
from opentrail.setting_sources import from_environment
from opentrail.settings import FORMER_FLAGS, SANDBOX_DEFAULTS, SETTINGS, Settings, UpstreamAccess

if TYPE_CHECKING:
    from opentrail.app.server import Server
    from opentrail.app.upstreams import UpstreamCheck

_FORGOTTEN = (
    "sandbox  events of earlier runs remain, but the users, keys, topics and other resources"
    " of moto are gone"
)


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
    groups: dict[str, Any] = {}
    for name, setting in SETTINGS.items():
        if setting.group is None:
            continue
        group = groups.get(setting.group)
        if group is None:
            group = groups[setting.group] = parser.add_argument_group(setting.group)
        flag = f"--{name.replace('_', '-')}"
        action = "append" if setting.is_repeatable else "store"
        text = setting.help.format(d=defaults, organization=organization)
        shown = argparse.SUPPRESS if setting.is_hidden else text
        group.add_argument(flag, metavar=setting.metavar, action=action, help=shown)
        if name == "data_dir":
            group.add_argument("--config", metavar="FILE", help="TOML file with settings")
    for name in FORMER_FLAGS:
        parser.add_argument(f"--{name.replace('_', '-')}", help=argparse.SUPPRESS)


def run(options: argparse.Namespace) -> int:
    """Records calls until a signal."""
    settings = _settings(options)
    from opentrail.app.upstreams import UpstreamCheck  # as slow to load as the server

    check = UpstreamCheck(settings) if settings.upstream_check == "on" else None
    _serve(settings, partial(_announce_serve, check))
    return 0


def _serve(settings: Settings, when_ready: Callable[[Server], None], **options: Any) -> None:
    """Loads the server and runs it; checks settings first, since loading takes half a second."""
    gc.disable()  # until the server is ready, since loading makes long-lived objects
    from opentrail.app.server import serve
    from opentrail.app.wings.register import WINGS

    serve(settings, WINGS, when_ready, **options)


def run_sandbox(options: argparse.Namespace) -> int:
    """Records calls in front of a built-in upstream until a signal."""
    if options.s3 not in (None, "moto", "seaweedfs"):
        raise UsageError(f"--s3 must be one of moto, seaweedfs, not {options.s3!r}")
    settings = _settings(options, SANDBOX_DEFAULTS)
    if not settings.listen.is_loopback:
        raise UsageError("the sandbox is for this machine alone; 'opentrail serve' has --upstream")
    directory = {ADMIN_KEY_ID: ADMIN, **settings.directory}
    journal = settings.data_dir / "journal"
    notes = [_FORGOTTEN] if journal.is_dir() and any(journal.iterdir()) else []
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
        announce = partial(_announce_sandbox, notes)
        admin = (ADMIN_KEY_ID, ADMIN_SECRET)
        _serve(settings, announce, remake_buckets=not lasting, admin=admin)
    return 0


def _settings(options: argparse.Namespace, defaults: Settings | None = None) -> Settings:
    return from_environment(vars(options), options.config, defaults or Settings())


def _announce(server: Server, notes: Sequence[str] = ()) -> None:
    print(f"opentrail {__version__} records calls on {server.endpoint_url}")
    print(f"  console  {server.console_link()}")
    print("           (works once, within ten minutes; 'opentrail console' prints another)")
    if isinstance(server.settings.record, Selection):
        from opentrail.capture.record.recordable import describe_left_out

        print(f"  --record leaves out {describe_left_out(server.settings.record)}")
    if server.settings.verifies:
        print(f"  auth     {_describe_auth(server.settings)}")
    for note in notes:
        print(f"  {note}")
    print(f"  data     {server.settings.data_dir.resolve()}", flush=True)


def _describe_auth(settings: Settings) -> str:
    """Returns what happens to callers that opentrail cannot verify."""
    handled = {"forward": "forwarded", "refuse": "refused", "sign-in": "forwarded only to sign in"}
    unsigned, unknown = handled[settings.of_unsigned], handled[settings.of_unknown_keys]
    return f"unsigned calls are {unsigned}; calls with unknown keys are {unknown}"


def _announce_serve(check: UpstreamCheck | None, server: Server) -> None:
    notes = [f"upstream {line}" for line in check.lines()] if check else []
    for name in server.settings.domain:
        notes.append(f"domain   {name}; the upstream must have it, too, for BUCKET.{name}")
    if trusted := ", ".join(server.settings.insecure_trusted_networks):
        notes.append(f"INSECURE hosts in {trusted} may call as any user, without TLS")
    if server.callers is not None and (default := server.callers.default) is not None:
        notes.append(f"callers  as the upstream names them; by default {default.arn}")
    elif not server.settings.directory and server.settings.of_unknown_keys == "forward":
        notes.append(f"callers  unknown unless recorded calls made their keys; {NAMING}")
    _announce(server, notes)
    print(f"\nexport AWS_ENDPOINT_URL={server.endpoint_url}")
    for line in (*_emulator_keys(server.settings), *_exports(server)):
        print(line)
    print(flush=True)


def _emulator_keys(settings: Settings) -> Iterator[str]:
    """Yields shell lines that set the keys of an AWS Emulator behind a server."""
    from opentrail.app.upstreams import emulator_of

    emulator = emulator_of(settings, "")
    if emulator is not None and emulator.is_there:
        yield f"export AWS_SHARED_CREDENTIALS_FILE={shlex.quote(str(emulator.credentials))}"
        yield f"export AWS_CONFIG_FILE={shlex.quote(str(emulator.config))}"


def _exports(server: Server) -> Iterator[str]:
    """Yields shell lines that set the server's data directory and the path of its commands."""
    yield f"export OPENTRAIL_DATA_DIR={shlex.quote(str(server.settings.data_dir.resolve()))}"
    commands = _own_commands()
    if commands is not None:
        yield f'export PATH={shlex.quote(str(commands))}:"$PATH"'


def _own_commands() -> Path | None:
    """Returns the folder of the command `opentrail`; None if PATH already has it."""
    own = Path(sys.prefix) / "commands"  # made by scripts/set_up.sh, without this `python`
    folder = own if own.is_dir() else Path(sys.executable).parent
    program = folder / "opentrail"
    program_on_path = shutil.which("opentrail")
    is_found = program_on_path is not None and Path(program_on_path).resolve() == program.resolve()
    return None if is_found or not program.exists() else folder


def _announce_sandbox(notes: Sequence[str], server: Server) -> None:
    folder = _own_commands()
    if folder is not None and (folder / "aws").exists():
        notes = [*notes, f"aws-cli  is in {folder}, which the last line below adds to PATH"]
    _announce(server, notes)
    print("\nPaste this into another terminal, then use aws-cli or any SDK as always:\n")
    print(f"export AWS_ENDPOINT_URL={server.endpoint_url}")
    print(f"export AWS_ACCESS_KEY_ID={ADMIN_KEY_ID}")
    print(f"export AWS_SECRET_ACCESS_KEY={ADMIN_SECRET}")
    print("export AWS_DEFAULT_REGION=us-east-1")
    for line in _exports(server):
        print(line)
    print(flush=True)
