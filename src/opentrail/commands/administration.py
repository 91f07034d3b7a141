"""`opentrail keys`, `policies` and `directory`: access keys, policies, and identities of keys.

The commands call a server; if none runs, they change the control store directly.
"""

from __future__ import annotations

import argparse
import asyncio
import getpass
import re
import sys
from pathlib import Path
from typing import Any

from opentrail.commands.arguments import Actions, account_id, add_client
from opentrail.commands.client import ask, data_dir_of
from opentrail.commands.rendering import json_text, print_json, print_table
from opentrail.core.errors import UsageError
from opentrail.core.event import parse_span
from opentrail.core.text import printable

KEYS = "/api/v1/access-keys"
POLICIES = "/api/v1/policies"
DIRECTORY = "/api/v1/directory"


def add_administration(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments that name the server or data directory of an action."""
    parser.add_argument("--config", metavar="FILE", help="settings, if no server runs")
    add_client(parser)


def administer(options: argparse.Namespace, path: str, arguments: dict[str, Any]) -> Any:
    """Returns the answer to an action.

    Args:
        options: names the server or data directory.
        path: `KEYS`, `POLICIES` or `DIRECTORY`.
        arguments: the action and its parameters.

    Raises:
        UsageError: there is no data directory, or a parameter is invalid.
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
    from opentrail.access.administration import (
        DirectoryAdministration,
        KeyAdministration,
        NamedKeys,
        PolicyAdministration,
    )
    from opentrail.access.policies import PolicyDirectory
    from opentrail.adapters.data_directory.files import DataDirectory
    from opentrail.app.access_keys import control_place, open_keys
    from opentrail.setting_sources import from_environment

    async def changed(_access_key_id: str) -> None:
        return None

    settings = from_environment({"data_dir": str(folder)}, options.config)
    data = DataDirectory(folder)
    data.open()
    try:
        place = control_place(settings, data)
        control = place.open()
        try:
            if path == DIRECTORY:
                named_keys = NamedKeys(control, settings.directory)
                await named_keys.load()
                return await DirectoryAdministration(named_keys, changed).run(arguments)
            policies = PolicyAdministration(PolicyDirectory(control))
            if path == POLICIES:
                return await policies.run(arguments)
            keys = await open_keys(place, control)
            return await KeyAdministration(keys, policies, changed).run(arguments)
        finally:
            await control.close()
    finally:
        data.close()


def policy_of(text: str) -> dict[str, str]:
    """Returns the parameters of a policy from its name, or from the file with its document.

    A name with the suffix `.json` is a file; the policy has the file's name without the suffix.

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


def add_keys_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    create = actions.add("create", "create an access key; its secret is shown once")
    _add_principal(create)
    create.add_argument(
        "--lifetime", metavar="TIME", help="a temporary key, with a session token: 12h"
    )
    create.add_argument(
        "--policy",
        metavar="NAME|FILE",
        action="append",
        help="attach this policy to the user; repeatable",
    )
    importing = actions.add("import", "add an existing key; its secret is read from standard input")
    importing.add_argument("key", metavar="KEY-ID", help="the access key id")
    _add_principal(importing)
    importing.add_argument(
        "--session-token", action="store_true", help="read the session token from the second line"
    )
    importing.add_argument("--expires", metavar="T", help="until this time, 2030-01-01T00:00:00Z")
    listing = actions.add("list", "list the access keys, without their secrets")
    listing.add_argument("--account", type=account_id, metavar="ID", help="only of this account")
    listing.add_argument("--principal", metavar="ARN", help="only of this principal")
    rotate = actions.add(
        "rotate", "create another key of the same principal, and disable the old one"
    )
    rotate.add_argument(
        "--overlap", metavar="TIME", help="keep accepting the old key for this long: 24h"
    )
    disable = actions.add("disable", "refuse the signatures of a key")
    enable = actions.add("enable", "accept the signatures of a key again")
    for action in (rotate, disable, enable, actions.add("delete", "remove a key")):
        action.add_argument("key", metavar="KEY-ID", help="the access key id")
    for action in actions:
        add_administration(action)
    parser.set_defaults(run=_run_keys)


def _add_principal(action: argparse.ArgumentParser) -> None:
    owner = action.add_mutually_exclusive_group(required=True)
    owner.add_argument("--user", metavar="NAME", help="key of this IAM user")
    owner.add_argument("--root", action="store_true", help="key of the account's root user")
    owner.add_argument("--principal", metavar="ARN", help="key of this user or role session")
    action.add_argument("--account", type=account_id, metavar="ID", help="account (123456789012)")


def _run_keys(options: argparse.Namespace) -> int:
    """Runs `opentrail keys` and returns its exit code.

    Raises:
        UsageError: an argument is wrong.
    """
    arguments = _arguments_of(options)
    answer = administer(options, "/api/v1/access-keys", arguments)
    lines = [json_text(answer)] if options.json else _lines_of_keys(options, answer)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _lines_of_keys(options: argparse.Namespace, answer: dict[str, Any]) -> list[str]:
    if options.action == "list":
        return _list_of_keys(answer["AccessKeys"])
    if "SecretAccessKey" in answer:
        return _new_key(answer)
    if options.action == "delete":
        return [f"{options.key} is deleted"]
    return [f"{answer['AccessKeyId']} of {printable(answer['Principal'])}: {answer['Status']}"]


def _arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the action with the given parameters."""
    flags = vars(options)
    names = ("key", "user", "root", "principal", "account")
    arguments: dict[str, Any] = {"action": options.action}
    arguments |= {name: flags[name] for name in names if flags.get(name)}
    for name in ("lifetime", "overlap"):
        if flags.get(name):
            arguments[name] = _seconds(flags[name], name)
    if options.action == "import":
        arguments |= _secrets(options)
    if flags.get("policy"):
        arguments["policies"] = [policy_of(text) for text in options.policy]
    return arguments


def _seconds(text: str, name: str) -> int:
    span = parse_span(text)
    if span is None:
        raise UsageError(
            f"--{name} must be a number with s, m, h, d or w, such as 12h, not {text!r}"
        )
    return int(span.total_seconds())


def _secrets(options: argparse.Namespace) -> dict[str, Any]:
    """Reads the secret and the session token, since other users could see arguments."""
    if sys.stdin.isatty():
        secret = getpass.getpass("secret access key: ")
        token = getpass.getpass("session token: ") if options.session_token else ""
    else:
        secret, _, token = sys.stdin.read().strip().partition("\n")
    if not secret.strip():
        raise UsageError("the secret access key is read from standard input, which is empty")
    if bool(token.strip()) != options.session_token:
        raise UsageError("the session token is the second line of standard input: --session-token")
    secrets = {"secret": secret.strip(), "session_token": token.strip() or None}
    return secrets | {"expires": options.expires}


def _new_key(answer: dict[str, Any]) -> list[str]:
    lines = [
        f"access key of {printable(answer['Principal'])}; its secret is shown only now",
        "",
        f"export AWS_ACCESS_KEY_ID={answer['AccessKeyId']}",
        f"export AWS_SECRET_ACCESS_KEY={answer['SecretAccessKey']}",
    ]
    if "SessionToken" in answer:
        lines.append(f"export AWS_SESSION_TOKEN={answer['SessionToken']}")
    return lines


def _list_of_keys(keys: list[dict[str, Any]]) -> list[str]:
    lines = []
    for key in keys:
        until = f", until {key['Expiration']}" if "Expiration" in key else ""
        lines.append(
            f"{key['AccessKeyId']}  {key['Status']:8}  {printable(key['Principal'])}{until}"
        )
    return lines or ["the key directory has no access keys"]


def add_policy_actions(actions: Actions) -> None:
    """Adds the actions that manage policies, for `opentrail policy`."""
    put = actions.add("put", "create or replace a policy")
    put.add_argument("policy", metavar="FILE.json", help="the policy")
    managing = [put]
    for action, text in (
        ("show", "print the document of a policy"),
        ("delete", "delete an unattached policy"),
    ):
        managing.append(actions.add(action, text))
        managing[-1].add_argument("policy", metavar="NAME", help="the policy")
    for action, text in (
        ("attach", "attach a policy to a user or role"),
        ("detach", "detach a policy from a user or role"),
    ):
        attaching = actions.add(action, text)
        managing.append(attaching)
        attaching.add_argument("policy", metavar="NAME|FILE", help="the policy")
        owner = attaching.add_mutually_exclusive_group(required=True)
        owner.add_argument("--user", metavar="NAME", help="this IAM user")
        owner.add_argument("--principal", metavar="ARN", help="this user or role")
    managing.append(actions.add("list", "list policies and their attachments"))
    for action_parser in managing:
        action_parser.add_argument(
            "--account", type=account_id, metavar="ID", help="account (123456789012)"
        )
        add_administration(action_parser)
        action_parser.set_defaults(run=_manage_policies)


def _manage_policies(options: argparse.Namespace) -> int:
    """Runs an action that manages policies and returns its exit code.

    Raises:
        UsageError: an argument is wrong.
    """
    flags = vars(options)
    arguments: dict[str, Any] = {"action": options.action}
    arguments |= {name: flags[name] for name in ("user", "principal", "account") if flags.get(name)}
    if flags.get("policy"):
        arguments |= policy_of(options.policy)
    answer = administer(options, POLICIES, arguments)
    lines = [json_text(answer)] if options.json else _lines_of_policies(arguments, answer)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _lines_of_policies(arguments: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    action = arguments["action"]
    if action == "list":
        return _list_of_policies(answer)
    if action == "show":
        return [json_text(answer["Document"], indent=2)]
    if action == "put":
        return [answer["Arn"]]
    if action == "attach":
        return [f"{printable(answer['Principal'])}: {', '.join(answer['Policies'])}"]
    outcomes = {"detach": "is detached", "delete": "is deleted"}
    return [f"{arguments['name']} {outcomes[action]}"]


def _list_of_policies(answer: dict[str, Any]) -> list[str]:
    lines = [printable(entry["Arn"]) for entry in answer["Policies"]]
    lines += [f"arn:aws:iam::aws:policy/{name}" for name in answer["AWSManaged"]]
    for entry in answer["Attached"]:
        lines.append(f"{printable(entry['Principal'])}: {', '.join(entry['Policies'])}")
    return lines


# Names of keys

#: Names that look like AWS's key ids, which have 20 characters.
_OF_AWS = re.compile(r"(AKIA|ASIA)[A-Z0-9]*")
_AWS_CHARACTERS = 20
_GIVEN = ("key", "user", "root", "account", "arn", "principal_id")


def add_directory_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    adding = actions.add("add", "record future calls with a key as calls of a user")
    adding.add_argument("key", metavar="KEY-ID", help="the access key id")
    owner = adding.add_mutually_exclusive_group(required=True)
    owner.add_argument("--user", metavar="NAME", help="key of this IAM user")
    owner.add_argument("--root", action="store_true", help="key of the account's root user")
    adding.add_argument(
        "--account",
        type=account_id,
        metavar="ID",
        help="account (default: encoded in the key)",
    )
    adding.add_argument("--arn", metavar="ARN", help="ARN of the user, if it has a path")
    adding.add_argument("--principal-id", metavar="ID", help="unique id of the user: AIDA…")
    actions.add("list", "list the named keys")
    removing = actions.add("remove", "remove the name of a key")
    removing.add_argument("key", metavar="KEY-ID", help="the access key id")
    for action in actions:
        add_administration(action)
    parser.set_defaults(run=_run_directory)


def _run_directory(options: argparse.Namespace) -> int:
    """Runs the action that the user chose and returns the exit code."""
    flags = vars(options)
    arguments = {name: flags[name] for name in _GIVEN if flags.get(name)}
    answer = administer(options, DIRECTORY, {"action": options.action, **arguments})
    if options.json:
        print_json(answer)
    elif options.action == "list":
        _print_keys(answer["keys"])
    elif options.action == "add":
        _warn_of_cut(options.key)
        print(f"new calls of {printable(options.key)} are recorded as {_caller(answer)}")
    else:
        print(f"removed {printable(options.key)}; the caller of its new calls is unknown")
    return 0


def _warn_of_cut(key: str) -> None:
    """Warns about a key id shorter or longer than AWS's, since no call has such a key."""
    if _OF_AWS.fullmatch(key) and len(key) != _AWS_CHARACTERS:
        sys.stderr.write(
            f"opentrail: {printable(key)} has {len(key)} characters, AWS's key ids have "
            f"{_AWS_CHARACTERS}: is it whole?\n"
        )


def _caller(entry: dict[str, Any]) -> str:
    who = "the root user" if entry.get("root") else f"IAM user {printable(entry['user'])}"
    return f"{who} of account {entry['account']}" if entry.get("account") else who


def _print_keys(keys: list[dict[str, Any]]) -> None:
    if not keys:
        print("no keys are named; 'opentrail directory add KEY-ID --user NAME' names one")
        return
    rows = [
        (
            key["accessKeyId"],
            "(root)" if key.get("root") else key["user"],
            key.get("account") or "",
        )
        for key in keys
    ]
    print_table(("Access key", "User", "Account"), rows)
