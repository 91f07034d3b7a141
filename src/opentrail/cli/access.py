"""Arguments of the commands about who may use the console and the CloudTrail API."""

from __future__ import annotations

import argparse
from typing import Any

from opentrail.cli.shared import Actions, add_client, add_command, runs


def add_commands(commands: Any) -> None:
    _add_console(commands)
    _add_directory(commands)
    _add_keys(commands)
    _add_policies(commands)
    _add_users(commands)


def _add_directory(commands: Any) -> None:
    more = "Keys that recorded calls made (CreateAccessKey, AssumeRole) need no name here."
    actions = Actions(commands, "directory", "name the callers behind access keys", more)
    adding = actions.add("add", "record calls of a key as those of a user, from now on")
    adding.add_argument("key", metavar="KEY-ID", help="the access key id")
    whose = adding.add_mutually_exclusive_group(required=True)
    whose.add_argument("--user", metavar="NAME", help="key of this IAM user")
    whose.add_argument("--root", action="store_true", help="key of the account's root user")
    adding.add_argument(
        "--account", metavar="ID", help="account; else the one that the key encodes"
    )
    adding.add_argument("--arn", metavar="ARN", help="ARN of the user, if it has a path")
    adding.add_argument("--principal-id", metavar="ID", help="unique id of the user: AIDA…")
    actions.add("list", "list the named keys")
    removing = actions.add("remove", "name a key no longer")
    removing.add_argument("key", metavar="KEY-ID", help="the access key id")
    for parser in actions:
        parser.add_argument("--config", metavar="FILE", help="settings, if no server runs")
        add_client(parser)


def _add_keys(commands: Any) -> None:
    text = "create and manage the access keys of the key directory"
    actions = Actions(commands, "keys", text)
    add = actions.add

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
    for parser in actions:
        parser.add_argument("--config", metavar="FILE", help="settings, if no server runs")
        add_client(parser)


def _add_policies(commands: Any) -> None:
    text = "manage what users and roles may do with the CloudTrail API"
    more = "Policies count with --auth enforced. A FILE.json has the document of the policy FILE."
    actions = Actions(commands, "policies", text, more)
    add = actions.add

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
    for parser in actions:
        parser.add_argument("--account", metavar="ID", help="account (123456789012)")
        parser.add_argument("--config", metavar="FILE", help="settings, if no server runs")
        add_client(parser)


def _add_users(commands: Any) -> None:
    text = "manage the users of the web console"
    actions = Actions(commands, "users", text)
    add = actions.add

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
    for parser in actions:
        if parser.get_default("action") != "list":
            parser.add_argument("name", metavar="NAME", help="name of the user")
        add_client(parser)


def _add_console(commands: Any) -> None:
    text = "print a link that opens the web console"
    more = "It is good once, for ten minutes, in a browser on the server's machine."
    console = add_command(commands, "console", text, runs("console"), more)
    add_client(console)
