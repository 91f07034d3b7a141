"""Actions on keys, policies and the directory: by a server, else on the control store itself."""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path
from typing import Any

from opentrail.commands.arguments import add_client
from opentrail.commands.client import ask, data_dir_of
from opentrail.core.errors import UsageError

KEYS = "/api/v1/access-keys"
POLICIES = "/api/v1/policies"
DIRECTORY = "/api/v1/directory"


def add_administration(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of an action: they say which server, or which data directory."""
    parser.add_argument("--config", metavar="FILE", help="settings, if no server runs")
    add_client(parser)


def administer(options: argparse.Namespace, path: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Returns the answer to an action.

    Args:
        options: says which server, or which data directory.
        path: `KEYS`, `POLICIES` or `DIRECTORY`.
        arguments: the action and its parameters.

    Raises:
        UsageError: there is no data directory, or a parameter is wrong.
        DataDirectoryInUse: a server is using it.
    """
    folder = data_dir_of(options)
    if options.endpoint or (folder / "server.json").exists():
        return ask(options, path, {}, arguments)
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a data directory; name one with --data-dir DIR")
    return asyncio.run(_offline(options, folder, path, arguments))


async def _offline(
    options: argparse.Namespace, folder: Path, path: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Runs an action on the control store of a data directory that no server uses."""
    from opentrail.access.administration import KeyAdministration, PolicyAdministration
    from opentrail.access.named_keys import DirectoryAdministration, NamedKeys
    from opentrail.access.policies import PolicyDirectory
    from opentrail.adapters.files import DataDirectory
    from opentrail.app.access_keys import open_control, open_keys
    from opentrail.settings import from_environment

    async def changed(_access_key_id: str) -> None:
        return None

    settings = from_environment({"data_dir": str(folder)}, options.config)
    data = DataDirectory(folder)
    data.open()
    try:
        control = open_control(settings, data)
        try:
            if path == DIRECTORY:
                named_keys = NamedKeys(control, settings.directory)
                await named_keys.load()
                return await DirectoryAdministration(named_keys, changed).run(arguments)
            policies = PolicyAdministration(PolicyDirectory(control))
            if path == POLICIES:
                return await policies.run(arguments)
            keys = await open_keys(settings, control, data)
            return await KeyAdministration(keys, policies, changed).run(arguments)
        finally:
            await control.close()
    finally:
        data.close()


def policy_of(text: str) -> dict[str, str]:
    """Returns the parameters of a policy that is given by its name, or by a file with its document.

    A file is one whose name ends in `.json`; the policy has its name without that.

    Raises:
        UsageError: the file cannot be read.
    """
    if not text.endswith(".json"):
        return {"name": text}
    file = Path(text)
    try:
        return {"name": file.stem, "document": file.read_text()}
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"policy file {file} cannot be read: {error}") from error
