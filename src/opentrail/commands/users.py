"""`opentrail users`: the users of the web console."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from opentrail.commands.arguments import Actions, add_client
from opentrail.commands.client import ask
from opentrail.commands.rendering import print_json, print_table
from opentrail.core.text import printable

_PATH = "/api/v1/users"
_TOKENS = "/api/v1/users/tokens"
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
        ("disable", "disable a user, and end its sessions"),
        ("enable", "enable a disabled user"),
        ("delete", "delete a user, and end its sessions"),
        ("reset-password", "print a password for the next sign-in, and end the user's sessions"),
        ("end-sessions", "end the sessions of a user, including OpenID Connect"),
    ):
        actions.add(action, text)
    for action_parser in actions:
        if action_parser.get_default("action") != "list":
            action_parser.add_argument("name", metavar="NAME", help="name of the user")
        add_client(action_parser)
    _add_tokens(actions)
    parser.set_defaults(run=run)


def _add_tokens(actions: Actions) -> None:
    """Adds the actions on personal tokens."""
    tokens = Actions(actions.add("token", "manage the personal access tokens of users"))
    add = tokens.add("add", "create a token, and print it")
    add.add_argument("--days", metavar="N", type=int, default=90, help="days it is valid (90)")
    tokens.add("list", "list tokens, without their secrets")
    tokens.add("remove", "revoke a token")
    for token_parser in tokens:
        if token_parser.get_default("action") != "list":
            token_parser.add_argument("user", metavar="USER", help="name of the user")
            token_parser.add_argument("name", metavar="NAME", help="name of the token")
        add_client(token_parser)
        token_parser.set_defaults(run=_run_on_tokens)


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail users` and returns its exit code."""
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
        print_json(answer)
    elif options.action == "list":
        _print_users(answer["users"])
    elif "endedSessions" in answer:
        count = answer["endedSessions"]
        sessions = "1 session" if count == 1 else f"{count} sessions"
        sys.stdout.write(f"{sessions} of {printable(options.name)} ended\n")
    elif "password" in answer:
        name, password = printable(options.name), answer["password"]
        sys.stdout.write(f"password of {name} for the next sign-in: {password}\n")
        sys.stderr.write("it is shown only now, and must be changed at that sign-in\n")
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


def _run_on_tokens(options: argparse.Namespace) -> int:
    """Runs `opentrail users token` and returns its exit code."""
    if options.action == "list":
        answer = ask(options, _TOKENS, {})
    elif options.action == "add":
        body = {"user": options.user, "name": options.name, "days": options.days}
        answer = ask(options, _TOKENS, {}, body)
    else:
        body = {"user": options.user, "name": options.name}
        answer = ask(options, f"{_TOKENS}/remove", {}, body)
    if options.json:
        print_json(answer)
    elif options.action == "list":
        _print_tokens(answer["tokens"])
    elif options.action == "add":
        sys.stdout.write(f"{answer['secret']}\n")
        expires = answer["token"]["expires"]
        sys.stderr.write(f"it is shown only now, and is valid until {expires}\n")
    else:
        user, name = printable(options.user), printable(options.name)
        sys.stdout.write(f"token {name} of {user} is removed\n")
    return 0


def _print_tokens(tokens: list[dict[str, Any]]) -> None:
    if not tokens:
        sys.stdout.write("there are no tokens; 'opentrail users token add' creates one\n")
        return
    rows = [(token["user"], token["name"], token["expires"]) for token in tokens]
    print_table(("User", "Token", "Expires"), rows)
