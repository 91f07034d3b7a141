"""Validates log files and digest files: reads options, runs the validation, prints the outcome."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from opentrail.adapters.aws.downloads import S3Gets, TrailReader
from opentrail.adapters.data_directory.system import sync
from opentrail.adapters.keys.rsa_verifier import RsaVerifier
from opentrail.commands.arguments import SINCE_HELP, account_id, add_client
from opentrail.commands.client import Console, find
from opentrail.commands.progress import Progress
from opentrail.commands.rendering import print_json
from opentrail.core.errors import ObjectMissing, OpentrailError, UsageError
from opentrail.core.event import parse_moment, parse_time
from opentrail.core.text import counted
from opentrail.validation.bucket_objects import ROOT, Inventory, Source, Wanted
from opentrail.validation.buckets import (
    S3,
    Buckets,
    Export,
    Folder,
    bucket_and_prefix,
    read_signatures,
)
from opentrail.validation.checkpoints import Known, known_from, read_checkpoint, write_checkpoint
from opentrail.validation.public_keys import PublicKeys, read_keys
from opentrail.validation.report import NOT_GOOD, UNDECIDED, Finding, FindingKind, Report
from opentrail.validation.run import Task, Validation

_DIGESTS = "/api/v1/trails/digests"
_TRAIL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,127}")
_ARN = re.compile(
    r"arn:[a-z-]+:cloudtrail:(?P<region>[a-z0-9-]+):(?P<account>[0-9]{12}):trail/"
    r"(?P<name>[A-Za-z0-9._-]{3,128})"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("sources", nargs="+", metavar="SOURCE", help="TRAIL, s3://BUCKET/PREFIX, or FOLDER")
    add("--since", metavar="T", help=SINCE_HELP)
    add("--until", metavar="T", help="until this time")
    add(
        "--account",
        type=account_id,
        metavar="ID",
        action="append",
        help="only this account; repeatable",
    )
    add("--region", metavar="REGION", action="append", help="only this Region; repeatable")
    add("--trail", metavar="NAME", action="append", help="only this trail; repeatable")
    add("--keys", metavar="FILE", help="trust these keys: aws cloudtrail list-public-keys > FILE")
    add("--signatures", metavar="FILE", help="signatures of digest files, for a copy of a bucket")
    add("--checkpoint", metavar="FILE", help="compare with the digests in FILE, then update it")
    add("--export", metavar="DIR", help="copy all files to DIR, to validate them again")
    add_client(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Validates the named sources, prints the outcome and returns the exit code.

    Raises:
        UsageError: the options are invalid, or there are no public keys.
        OpentrailError: a bucket or server failed.
    """
    progress = Progress(sys.stderr, noun="files")

    def show(finding: Finding) -> None:
        if not options.json:
            progress.end()
            sys.stdout.write(f"{finding.line()}\n")

    report = Report(show=show)
    try:
        setting = _Setting(options)
        chains = setting.validate(report, progress)
    except OpentrailError as error:
        if error.exit_code == NOT_GOOD and report.exit_code != NOT_GOOD:
            error.exit_code = UNDECIDED  # no invalid file was found
        raise
    finally:
        progress.end()
    if options.json:
        print_json(report.as_json())
    else:
        sys.stdout.write("".join(f"{line}\n" for line in report.summary()))
    if options.checkpoint is not None and report.exit_code != NOT_GOOD:
        write_checkpoint(Path(options.checkpoint), chains, sync)
    return report.exit_code


class _Setting:
    """The sources, keys and limits that the options name."""

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._server = _server(options)
        names = [s for s in options.sources if self._server and _is_trail_name(s)]
        self._arns = [source for source in options.sources if source.startswith("arn:")]
        self._places = [s for s in options.sources if s not in self._arns and s not in names]
        self._since, self._until = _time(options, "since"), _time(options, "until")
        if self._since and self._until and self._since >= self._until:
            raise UsageError("--since must be before --until")
        self._api = TrailReader(self._server.aws_endpoint if self._server else None)
        self._arns += [self._arn_of(name) for name in names]
        if len(self._arns) > 1:
            raise UsageError("one trail at a time: give one name or ARN")
        self._buckets = Buckets(S3Gets)

    def validate(self, report: Report, progress: Progress) -> list[Known]:
        """Runs the validation and returns the new checkpoints of the chains."""
        options = self._options
        export = Export(Path(options.export)) if options.export else None
        signatures = read_signatures(Path(options.signatures)) if options.signatures else {}
        keys = self._keys()
        chains = read_checkpoint(Path(options.checkpoint)) if options.checkpoint else []
        # Read the server's state before the listing, so that it is not newer.
        chains += self._known_by_server(report)
        wanted = Wanted(options.account, options.region, options.trail)
        sources = self._sources()
        if self._arns:
            arn = _arn(self._arns[0])
            wanted = Wanted(options.account, options.region, [arn["name"]], [arn["region"]])
            sources = sources or [self._bucket_of_trail(arn)]
        inventory = Inventory(wanted)
        for source in sources:
            _list(source, inventory, report, progress)
            if isinstance(source, Folder):
                signatures = {**source.signatures, **signatures}
        progress.total = inventory.log_bytes
        task = Task(
            verifier=RsaVerifier(),
            keys=keys,
            signatures=signatures,
            since=self._since,
            until=self._until,
            known=chains,
            now=datetime.now(UTC) if self._buckets.is_used else None,
            export=export,
        )
        return Validation(inventory, self._buckets, task, report, progress.advance).run()

    def _arn_of(self, name: str) -> str:
        region = (self._options.region or ["us-east-1"])[0]
        trail = self._api.trail(name, region)
        if trail is None:
            raise UsageError(
                f"{name} is neither a folder nor a trail in {region}; 'opentrail trail list' "
                "lists trails, --region names another Region"
            )
        return str(trail["TrailARN"])

    def _sources(self) -> list[Source]:
        sources: list[Source] = []
        for place in self._places:
            if place.startswith(S3):
                sources.append(self._buckets.under(*bucket_and_prefix(place)))
            else:
                sources.append(Folder(place))
        return sources

    def _bucket_of_trail(self, arn: re.Match[str]) -> Source:
        trail = self._api.trail(arn.string, arn["region"])
        if trail is None:
            raise UsageError(f"there is no trail {arn.string}; name its bucket: s3://BUCKET/PREFIX")
        prefix = str(trail.get("S3KeyPrefix") or "")
        folder = f"{prefix}/{ROOT}" if prefix else ROOT
        is_of_many = trail.get("IsOrganizationTrail") is True
        part = folder if is_of_many else f"{folder}{arn['account']}/"
        return self._buckets.under(str(trail["S3BucketName"]), part)

    def _keys(self) -> PublicKeys:
        if self._options.keys:
            return PublicKeys(read_keys(Path(self._options.keys)))
        return PublicKeys(ask=self._ask_keys)

    def _ask_keys(self, region: str, start: datetime, end: datetime) -> list[Mapping[str, Any]]:
        try:
            return self._api.public_keys(region, start, end)
        except OpentrailError as error:
            raise OpentrailError(f"{error}; --keys FILE gives public keys without it") from error

    def _known_by_server(self, report: Report) -> list[Known]:
        """Returns the digests that the server knows; reports the events that it lost."""
        if not self._arns or self._server is None:
            return []
        arn = _arn(self._arns[0])
        answer = self._server.ask(_DIGESTS, {"name": arn.string, "account": arn["account"]})
        for lost in answer.get("undelivered", ()):  # earlier versions do not know
            if self._since and parse_time(lost["found"]) < self._since:
                continue
            events = counted(lost["last"] - lost["first"] + 1, "event")
            reason = (
                f"{events} from position {lost['first']} to {lost['last']} expired before "
                "delivery: those that the trail selects are in no log file"
            )
            report.bad(FindingKind.GAP, arn.string, reason)
        return [known_from(chain, "the server", is_current=True) for chain in answer["chains"]]


def _is_trail_name(source: str) -> bool:
    """Returns whether a source could be a trail name instead of a path."""
    return _TRAIL_NAME.fullmatch(source) is not None and not Path(source).exists()


def _server(options: argparse.Namespace) -> Console | None:
    """Returns the running server, None if none runs and the options name none."""
    try:
        return find(options)
    except UsageError:
        if options.data_dir or options.endpoint:
            raise
        return None


def _list(source: Source, inventory: Inventory, report: Report, progress: Progress) -> None:
    """Lists a source; a bucket that does not exist counts as empty."""
    try:
        inventory.add(source, lambda _count: progress.show())
    except ObjectMissing as error:
        report.unknown(FindingKind.CHAIN, str(error), "there is nothing to list")
    if isinstance(source, Folder):
        for link in source.links:
            report.note(FindingKind.CHAIN, link, "symbolic link, not followed")


def _arn(text: str) -> re.Match[str]:
    match = _ARN.fullmatch(text)
    if match is None:
        raise UsageError(f"{text} is not the ARN of a trail")
    return match


def _time(options: argparse.Namespace, name: str) -> datetime | None:
    text = getattr(options, name)
    if text is None:
        return None
    try:
        return parse_moment(text, datetime.now(UTC))
    except ValueError as error:
        raise UsageError(f"--{name} {error}") from error
