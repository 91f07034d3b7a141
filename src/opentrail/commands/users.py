"""`opentrail users`: the users of the web console."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from opentrail.commands.arguments import Actions, add_client
from opentrail.commands.client import ask
from opentrail.core.text import printable

_PATH = "/api/v1/users"
_DONE = {"disable": "disabled", "enable": "enabled", "delete": "deleted"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
    create = actions.add("create", "create a user, and print a password for the first sign-in")
    create.add_argument(
        "--role", metavar="ROLE", required=True, help="viewer, auditor, operator or admin"
    )
    create.add_argument("--accounts", metavar="IDS", help="only these accounts: ID,ID")
    for action, text in (
        ("list", "list users"),
        ("disable", "refuse a user until it is enabled, and end its sessions"),
        ("enable", "accept a user again"),
        ("delete", "delete a user, and end its sessions"),
        ("reset-password", "print a password for the next sign-in, and end the user's sessions"),
    ):
        actions.add(action, text)
    for action_parser in actions:
        if action_parser.get_default("action") != "list":
            action_parser.add_argument("name", metavar="NAME", help="name of the user")
        add_client(action_parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs the action that a person chose."""
    if options.action == "list":
        answer = ask(options, _PATH, {})
    elif options.action == "create":
        accounts = options.accounts.split(",") if options.accounts is not None else None
        body = {"name": options.name, "role": options.role, "accounts": accounts}
        answer = ask(options, _PATH, {}, body)
    else:
        body = {"name": options.name, "action": options.action}
        answer = ask(options, f"{_PATH}/change", {}, body)
    if options.json:
        sys.stdout.write(f"{json.dumps(answer)}\n")
    elif options.action == "list":
        _print_users(answer["users"])
    elif "password" in answer:
        name, password = printable(options.name), answer["password"]
        sys.stdout.write(f"password of {name} for the next sign-in: {password}\n")
        sys.stderr.write("it is shown this once, and must be changed at that sign-in\n")
    else:
        sys.stdout.write(f"{printable(options.name)} is {_DONE[options.action]}\n")
    return 0


def _print_users(users: list[dict[str, Any]]) -> None:
    if not users:
        sys.stdout.write("there are no users; 'opentrail users create' creates one\n")
        return
    width = max(len(user["name"]) for user in users)
    for user in users:
        accounts = ",".join(user["accounts"]) if user["accounts"] else "all accounts"
        state = "active" if user["active"] else "disabled"
        if user["active"] and user["mustChangePassword"]:
            state = "has not signed in yet"
        role = f"{user['role']:8}"
        sys.stdout.write(f"{printable(user['name']):{width}}  {role}  {accounts}  {state}\n")
