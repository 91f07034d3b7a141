"""`opentrail trail`: lists, creates and changes trails."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from opentrail.commands.arguments import Actions, add_client
from opentrail.commands.client import ask
from opentrail.commands.conditions import own_region
from opentrail.commands.rendering import print_fields, print_json, print_table
from opentrail.core.errors import CloudTrailError, UsageError
from opentrail.core.text import counted, printable
from opentrail.core.trail import check_bucket_name, check_kms_key, check_prefix, check_trail_name

_PATH = "/api/v1/trails"
_DONE = {"start": "logs events now", "stop": "logs no more events", "delete": "is deleted"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    actions = Actions(parser)
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
    add(
        "--create-bucket",
        action="store_true",
        help="create the bucket if it does not exist, with its policy",
    )
    add("--prefix", metavar="PREFIX", help="folder in the bucket")
    add("--kms-key", metavar="KEY", help="key that encrypts the files")
    add("--topic", metavar="NAME", help="SNS topic that announces files")
    add("--create-topic", action="store_true", help="create the topic")
    add("--region", metavar="REGION", help="home Region (AWS_REGION, else us-east-1)")
    add("--single-region", action="store_true", help="only events of that Region")
    add("--no-validation", action="store_true", help="no digest files")
    for action_parser in actions:
        add_client(action_parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Runs `opentrail trail` and returns its exit code."""
    if options.action == "flush":
        return _flush(options)
    if options.action == "create":
        _check(options)
    answer = ask(options, _PATH, {}, _arguments_of(options))
    if options.json:
        print_json(answer)
    elif options.action == "list":
        _print_trails(answer["trails"])
    elif options.action in _DONE:
        print(f"{answer['trail']} {_DONE[options.action]}")
    else:
        _print_trail(answer)
    return 0


def _check(options: argparse.Namespace) -> None:
    """Checks the names of a new trail before creating anything.

    Raises:
        UsageError: a name is invalid.
    """
    checks: tuple[tuple[str, str | None, Callable[[str], None]], ...] = (
        ("NAME", options.name, check_trail_name),
        ("--bucket", options.bucket, check_bucket_name),
        ("--prefix", options.prefix, check_prefix),
        ("--kms-key", options.kms_key, check_kms_key),
    )
    for argument, value, check in checks:
        try:
            if value is not None:
                check(value)
        except CloudTrailError as error:
            raise UsageError(f"{argument}: {error}") from error
    if options.prefix and options.prefix.endswith("/"):
        raise UsageError(f"--prefix: {options.prefix!r} ends with a slash; leave it out")
    if options.create_topic and not options.topic:
        raise UsageError("--create-topic needs the name of the topic: --topic NAME")


def _arguments_of(options: argparse.Namespace) -> dict[str, Any]:
    arguments: dict[str, Any] = {"action": options.action}
    if options.action != "list":
        arguments["name"] = options.name
    if options.action == "create":
        arguments |= {
            "bucket": options.bucket,
            "createBucket": options.create_bucket,
            "prefix": options.prefix,
            "kmsKey": options.kms_key,
            "topic": options.topic,
            "createTopic": options.create_topic,
            "allRegions": not options.single_region,
            "validation": not options.no_validation,
            "region": options.region or own_region(),
        }
    return arguments


def _flush(options: argparse.Namespace) -> int:
    delivered = ask(options, f"{_PATH}/flush", {}, {"name": options.name})
    if options.json:
        print_json(delivered)
        return 0
    logs = counted(len(delivered["logFiles"]), "log file")
    digests = counted(len(delivered["digestFiles"]), "digest file")
    print(f"{delivered['trail']}: {logs} and {digests} delivered")
    return 0


def _print_trails(trails: list[dict[str, Any]]) -> None:
    if not trails:
        print("there are no trails; 'opentrail trail create NAME --bucket BUCKET' makes one")
        return
    print_table(
        ("Name", "Status", "Bucket", "Home Region", "Last log file", "Last digest file"),
        [
            (
                trail["name"],
                trail["status"],
                trail["bucket"],
                trail["homeRegion"],
                trail["latestDelivery"] or "none yet",
                trail["latestDigest"] or "none yet",
            )
            for trail in trails
        ],
    )
    for trail in trails:
        if trail["reason"]:
            print(f"\n{printable(trail['name'])}: {printable(trail['reason'])}")


def _print_trail(trail: dict[str, Any]) -> None:
    print(f"{printable(trail['name'])}: {trail['status']}\n")
    prefix = f"/{trail['prefix']}" if trail["prefix"] else ""
    print_fields(
        {
            "ARN": trail["arn"],
            "bucket": f"s3://{trail['bucket']}{prefix}",
            "home Region": trail["homeRegion"],
            "Regions": "all" if trail["multiRegion"] else trail["homeRegion"],
            "digest files": "yes" if trail["validation"] else "no",
            "Insights": "yes" if trail["insights"] else "no",
            "KMS key": trail["kmsKey"] or "none",
            "SNS topic": trail["topic"] or "none",
            "log group": trail["logGroup"] or "none",
            "last log file": trail["latestDelivery"] or "none yet",
            "last digest file": trail["latestDigest"] or "none yet",
            "problem": trail["reason"],
        }
    )
