"""Arguments of the commands that look after a server and its data directory."""

from __future__ import annotations

from typing import Any

from opentrail.cli.shared import add_client, add_command, runs


def add_commands(commands: Any) -> None:
    _add_status(commands)
    _add_doctor(commands)
    _add_verify_store(commands)
    _add_backup(commands)
    _add_restore(commands)


def _add_status(commands: Any) -> None:
    text = "show whether a server is healthy, and what it has lost"
    status = add_command(commands, "status", text, runs("status"), "Exit code 1: it is not.")
    add_client(status)


def _add_doctor(commands: Any) -> None:
    text = "look for what commonly goes wrong, and mend it"
    more = "Checks the data directory, the server, its upstreams and trails, and this terminal."
    doctor = add_command(commands, "doctor", text, runs("doctor"), more)
    doctor.add_argument("--fix", action="store_true", help="mend what can be mended")
    text = "go on without what the data directory has lost, such as its control store"
    doctor.add_argument("--accept-losses", action="store_true", help=text)
    add_client(doctor)


def _add_verify_store(commands: Any) -> None:
    text = "verify every record in a data directory"
    more = (
        "Compares each record of the journal with its hash chain, and each sealed file of event"
        " history with its hash. A server may be running. Exit codes: 0 good, 1 not good."
    )
    verify = add_command(commands, "verify-store", text, runs("verify_store"), more)
    verify.add_argument("--data-dir", metavar="DIR", help="the data directory")
    verify.add_argument("--json", action="store_true", help="print JSON")


def _add_backup(commands: Any) -> None:
    text = "write a data directory to one file, also while a server runs"
    more = (
        "The backup is of one moment, and is verified. Exit codes: 0 good, 1 there is damage,"
        " which the backup has, too."
    )
    backup = add_command(commands, "backup", text, runs("backup"), more)
    add = backup.add_argument
    add("file", metavar="FILE", help="the backup, such as opentrail.tar")
    add("--data-dir", metavar="DIR", help="the data directory")
    add("--config", metavar="FILE", help="settings, if they name a control store")
    add("--with-keys", action="store_true", help="add keys/, encrypted with a passphrase")
    add("--overwrite", action="store_true", help="replace a file that exists")
    add("--json", action="store_true", help="print JSON")


def _add_restore(commands: Any) -> None:
    text = "make a data directory of a backup"
    restore = add_command(commands, "restore", text, runs("backup", "run_restore"))
    add = restore.add_argument
    add("file", metavar="FILE", help="the backup")
    add("--data-dir", metavar="DIR", help="folder to make; it must not exist, or be empty")
    add("--config", metavar="FILE", help="settings, if they name a control store")
    add("--without-keys", action="store_true", help="leave the keys in the backup out")
    add("--json", action="store_true", help="print JSON")
