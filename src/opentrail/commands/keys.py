"""`opentrail keys`: the access keys of the key directory."""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from typing import Any

from opentrail.commands.administration import add_administration, administer, policy_of
from opentrail.commands.arguments import Actions, account_id
from opentrail.core.errors import UsageError
from opentrail.core.event import parse_span
from opentrail.core.text import printable


def add_arguments(parser: argparse.ArgumentParser) -> None:
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
    parser.set_defaults(run=run)


def _add_principal(action: argparse.ArgumentParser) -> None:
    owner = action.add_mutually_exclusive_group(required=True)
    owner.add_argument("--user", metavar="NAME", help="key of this IAM user")
    owner.add_argument("--root", action="store_true", help="key of the account's root user")
    owner.add_argument("--principal", metavar="ARN", help="key of this user or role session")
    action.add_argument("--account", type=account_id, metavar="ID", help="account (123456789012)")


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail keys` and returns its exit code.

    Raises:
        UsageError: an argument is wrong.
    """
    arguments = _arguments_of(options)
    answer = administer(options, "/api/v1/access-keys", arguments)
    lines = [json.dumps(answer)] if options.json else _lines(options, answer)
    sys.stdout.writelines(f"{line}\n" for line in lines)
    return 0


def _lines(options: argparse.Namespace, answer: dict[str, Any]) -> list[str]:
    if options.action == "list":
        return _list_of(answer["AccessKeys"])
    if "SecretAccessKey" in answer:
        return _new_key(answer)
    if options.action == "delete":
        return [f"{options.key} is deleted"]
    return [f"{answer['AccessKeyId']} of {printable(answer['Principal'])}: {answer['Status']}"]


def _arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    """Returns the action with its parameters; those that are not given are left out."""
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
    """Reads the secret and the session token: arguments could be seen by other users."""
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


def _list_of(keys: list[dict[str, Any]]) -> list[str]:
    lines = []
    for key in keys:
        until = f", until {key['Expiration']}" if "Expiration" in key else ""
        lines.append(
            f"{key['AccessKeyId']}  {key['Status']:8}  {printable(key['Principal'])}{until}"
        )
    return lines or ["the key directory has no access keys"]
