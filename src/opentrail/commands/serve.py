"""`opentrail serve` and `opentrail sandbox`: start a server."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from opentrail.app.server import Server, serve
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


def run(options: argparse.Namespace) -> int:
    """Records calls until it is stopped."""
    serve(_settings(options), _announce_serve)
    return 0


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
        serve(settings, announce, remake_buckets=not lasting, admin=admin)
    return 0


def _settings(options: argparse.Namespace, defaults: Settings | None = None) -> Settings:
    return from_environment(vars(options), options.config, defaults or Settings())


def _announce(server: Server, notes: Sequence[str] = ()) -> None:
    print(f"opentrail {__version__} records calls on {server.endpoint_url}")
    print(f"  console  {server.console_link()}")
    for note in notes:
        print(f"  {note}")
    print(f"  data     {server.settings.data_dir.resolve()}", flush=True)


def _announce_serve(server: Server) -> None:
    unnamed = f"callers  unknown unless recorded calls made their keys; {NAMING}"
    _announce(server, () if server.settings.directory else (unnamed,))


def _announce_sandbox(server: Server, has_history: bool) -> None:
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
