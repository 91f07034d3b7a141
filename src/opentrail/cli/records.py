"""Arguments of the commands that import records, and that deliver and validate trails."""

from __future__ import annotations

from typing import Any

from opentrail.cli.shared import Actions, add_client, add_command, runs


def add_commands(commands: Any) -> None:
    _add_import(commands)
    _add_trail(commands)
    _add_validate(commands)


def _add_import(commands: Any) -> None:
    text = "import records that CloudTrail or other tools wrote"
    more = (
        "The format is detected: log files, NDJSON, LookupEvents output and EventBridge envelopes,"
        " compressed or not. Events that were imported before are recognized by their ids."
    )
    importing = add_command(commands, "import", text, runs("import_files"), more)
    importing.add_argument(
        "paths",
        nargs="+",
        metavar="PATH",
        help="file, folder, s3://BUCKET/PREFIX, or - for standard input",
    )
    importing.add_argument("--rejected", metavar="FILE", help="write every rejected line, as JSON")
    add_client(importing)


def _add_trail(commands: Any) -> None:
    more = "Changes are calls of the CloudTrail API, which are recorded like all others."
    actions = Actions(commands, "trail", "list, create and change trails", more)
    actions.add("list", "list trails with their health")
    for action, text in (
        ("show", "show a trail and its last deliveries"),
        ("start", "start logging"),
        ("stop", "stop logging"),
        ("delete", "delete a trail; its files stay in the bucket"),
        ("flush", "deliver a trail's events and sign its digests now"),
    ):
        actions.add(action, text).add_argument(
            "name", metavar="NAME", help="name or ARN of the trail"
        )
    add = actions.add("create", "create a trail and start logging").add_argument
    add("name", metavar="NAME", help="name of the trail")
    add("--bucket", metavar="BUCKET", required=True, help="where its files go")
    add("--create-bucket", action="store_true", help="create the bucket, with its policy")
    add("--prefix", metavar="PREFIX", help="folder in the bucket")
    add("--kms-key", metavar="KEY", help="key that encrypts the files")
    add("--topic", metavar="NAME", help="SNS topic that announces files")
    add("--create-topic", action="store_true", help="create the topic")
    add("--region", metavar="REGION", help="home Region (AWS_REGION, else us-east-1)")
    add("--single-region", action="store_true", help="only events of that Region")
    add("--no-validation", action="store_true", help="no digest files")
    for parser in actions:
        add_client(parser)


def _add_validate(commands: Any) -> None:
    text = "validate the log files and digest files of a trail"
    more = (
        "A trail by its name or ARN, its bucket, or a copy of the bucket in a folder; several are"
        " searched in order. Exit codes: 0 good, 1 not good, 5 cannot be decided."
    )
    validate = add_command(commands, "validate", text, runs("validate"), more)
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
    add_client(validate)
