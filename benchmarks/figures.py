"""Writes the page of figures from the results of this release: `python -m benchmarks.figures`.

A row stands there only if all of its figures were measured for this release, by the newest run.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.records import ROOT
from opentrail.core.version import __version__

PAGE = ROOT / "docs" / "explanation" / "figures.md"
RESULTS = ROOT / "benchmarks" / "results"
BEGIN, END = "<!-- figures of benchmarks/figures.py -->\n", "<!-- end of figures -->\n"
#: What a row is about, and its text; `{…}` are figures by their names in files of results.
ROWS = {
    "added latency per call, p50": (
        "{added by refuse p50 ms} ms with `refuse`, {added by allow p50 ms} ms with `allow`"
    ),
    "calls recorded on one core": (
        "{refuse calls/s}/s (`CreateUser`), {refuse calls/s, GetItem}/s (`GetItem`); mitmproxy"
        " records {mitmproxy calls/s}/s"
    ),
    "call duration at half that rate, p99": (
        "{refuse at half load p99 ms} ms with `refuse`, {allow at half load p99 ms} ms with"
        " `allow`; {mitmproxy at half load p99 ms} ms with mitmproxy"
    ),
    "time from response until lookups find the call, at 500 calls/s": (
        "p50 {visible p50 ms} ms, p99 {visible p99 ms} ms"
    ),
    "1 GB through the endpoint": (
        "{opentrail up MB/s} MB/s up and {opentrail down MB/s} MB/s down, with"
        " {opentrail up memory growth MB} MB of extra memory"
    ),
    "startup time, and memory of all three processes (PSS)": (
        "{start to ready, median s} s, {idle memory of all processes (PSS), median MB} MB;"
        " {the same after 14,000 calls of CreateUser, MB} MB after 14,000 calls"
    ),
    "call duration with 2,000 idle, half-open or slow connections open": (
        "at most {ratio of p50} times the duration without them, p50"
    ),
    "CloudTrail file import": "{import records/s} records/s",
    "`LookupEvents` for one of 10 million events, p99": (
        "{EventId p99 ms} ms by id, at most {page of 50, worst p99 ms} ms by any attribute;"
        " {500/s arriving, page of 50, worst p99 ms} ms while 500 calls/s arrive"
    ),
    "disk space": "{bytes a record} bytes per record",
    "10,000 records/s for one minute, and 5,000/s for ten minutes": (
        "all durable; lookups find them after {10,000/s for 60 s: durable to visible p99 ms} and"
        " {5,000/s for 600 s: durable to visible p99 ms} ms (p99)"
    ),
    "five trails delivering a backlog together": "{5 trails, backlog: records/s} records/s",
    "`opentrail validate`, 10,000 log files": (
        "{opentrail validate s} s; `aws cloudtrail validate-logs` takes"
        " {aws cloudtrail validate-logs s} s"
    ),
    "1,000,000 live temporary keys": (
        "{s to read all at the start} s longer to start; {us to learn a session} µs for each new"
        " key, {us to look up a random session} µs for a call with one"
    ),
}
_FIGURE = re.compile(r"\{([^}]+)\}")


@dataclass(frozen=True)
class Figure:
    """A figure, and its run: machine, Python, commit and day."""

    value: float
    run: str


def main() -> None:
    """Writes the table, and says which rows were not measured."""
    known = figures(RESULTS, __version__)
    PAGE.write_text(with_table(PAGE.read_text(), known))
    for label, text in ROWS.items():
        if missing := [name for name in _FIGURE.findall(text) if name not in known]:
            print(f"not measured for {__version__}: {label} ({'; '.join(missing)})")


def figures(folder: Path, release: str) -> dict[str, Figure]:
    """Returns the figures of a release, each of the newest file; the largest if it has several."""
    known: dict[str, Figure] = {}
    documents = [json.loads(file.read_text()) for file in folder.glob("*.json")]
    of_release = [document for document in documents if document.get("release") == release]
    for document in sorted(of_release, key=lambda document: str(document["measured"])):
        run = "`{cpu}`, Python {python}, commit {commit}, ".format_map(document)
        run += str(document["measured"])[:10]
        found: dict[str, float] = {}
        for group in document["results"].values():
            for name, value in group.items():
                found[name] = max(value, found.get(name, value))
        known |= {name: Figure(value, run) for name, value in found.items()}
    return known


def with_table(page: str, known: Mapping[str, Figure]) -> str:
    """Returns the text of the page with the table of these figures."""
    before, _, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the page lacks {BEGIN.strip()} or {END.strip()}")
    return f"{before}{BEGIN}{table(known)}{END}{after}"


def table(known: Mapping[str, Figure]) -> str:
    """Returns the rows whose figures are all known, and the list of their runs."""
    lines = ["| | | run |\n", "|---|---|---|\n"]
    runs: list[str] = []
    for label, text in ROWS.items():
        names = _FIGURE.findall(text)
        if not all(name in known for name in names):
            continue
        shown = _FIGURE.sub(lambda found: short(known[found[1]].value), text)
        used = sorted({known[name].run for name in names})
        runs += [run for run in used if run not in runs]
        numbers = ", ".join(str(runs.index(run) + 1) for run in used)
        lines.append(f"| {label} | {shown} | {numbers} |\n")
    return "".join([*lines, "\n", *(f"{i}. {run}\n" for i, run in enumerate(runs, 1)), "\n"])


def short(value: float) -> str:
    """Returns a figure with two significant digits.

    >>> short(3224.05), short(35.19), short(1.078), short(0.385)
    ('3,200', '35', '1.1', '0.39')
    """
    rounded = float(f"{value:.1e}")
    digits = 1 - math.floor(math.log10(abs(rounded))) if rounded else 0
    return f"{rounded:,.{max(digits, 0)}f}"


if __name__ == "__main__":
    main()
