"""What a person waits for: pages of the console in Chromium, over a real server under load."""

from __future__ import annotations

import json
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.request import Request, urlopen

from playwright.sync_api import BrowserContext, Page, Playwright, sync_playwright

from benchmarks.console import EVENTS, FIELDS, RATE, fill
from benchmarks.load import latencies_at
from benchmarks.nginx import stub
from benchmarks.processes import find_program, two_cpus
from benchmarks.servers import Server, create_user, opentrail
from benchmarks.wire import Connection, percentile

Figures = dict[str, float]
LOADS, TURNS, TAILED = 8, 60, 40
#: Seconds of calls whose latency is measured, with consoles open and without, and rounds of both.
SECONDS, ROUNDS = 20, 3
_FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-background-networking")
_PAGES = ("", "events", "live")
_HAS_ROWS = "() => document.querySelectorAll('[data-row]').length >= 50"
#: Asks one call after the other, as the page does; returns the milliseconds of each.
_ASK = """async ({path, times}) => {
  const taken = []
  let cursor = ""
  for (let turn = 0; turn < times; turn++) {
    const began = performance.now()
    const answer = await fetch(path + (cursor && `&cursor=${encodeURIComponent(cursor)}`))
    const found = await answer.json()
    taken.push(performance.now() - began)
    if (!answer.ok) throw new Error(JSON.stringify(found))
    if (found.next !== undefined) cursor = found.next ?? ""
  }
  return taken
}"""


def consoles_and_calls() -> Figures:
    """Measures calls with consoles open and without: the server has one processor to itself."""
    server_cpu, load_cpu = two_cpus()
    with _console(server_cpu, load_cpu) as (server, context):
        return {"events": EVENTS, **_recording(server, context, load_cpu)}


def console_pages() -> Figures:
    """Measures what a person waits for, while calls arrive: all share both processors."""
    _, load_cpu = two_cpus()
    with _console(None, None) as (server, context):
        return {"events": EVENTS, **_under_load(server, context, load_cpu)}


@contextmanager
def _console(
    server_cpu: int | None, browser_cpu: int | None
) -> Iterator[tuple[Server, BrowserContext]]:
    flags = ("--history-retention-days", "36500", "--insights", "off")
    with (
        stub(browser_cpu) as upstream,
        opentrail(upstream, *flags, cpu=server_cpu, prepare=_fill) as server,
        sync_playwright() as playwright,
        _chromium(playwright, server, browser_cpu) as context,
    ):
        yield server, context


def _fill(data: Path) -> None:
    data.mkdir(parents=True)
    fill(data)


@contextmanager
def _chromium(playwright: Playwright, server: Server, cpu: int | None) -> Iterator[BrowserContext]:
    """Runs Chromium on all processors, or on one of them, behind all else that runs there."""
    program = find_program("chromium", "apt-get install chromium")
    behind = "" if cpu is None else f"nice -n 19 taskset -c {cpu} "
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "chromium"
        script.write_text(f'#!/bin/sh\nexec {behind}{program} "$@"\n')
        script.chmod(0o700)
        browser = playwright.chromium.launch(executable_path=script, args=list(_FLAGS))
        try:
            yield _signed_in(browser.new_context(viewport={"width": 1440, "height": 900}), server)
        finally:
            browser.close()


def _signed_in(context: BrowserContext, server: Server) -> BrowserContext:
    described = json.loads((server.data / "server.json").read_text())
    asked = Request(
        f"{server.console}/api/v1/console-links",
        method="POST",
        headers={"Authorization": f"Bearer {described['token']}"},
    )
    with urlopen(asked, timeout=30) as answer:
        link = json.load(answer)["url"]
    page = context.new_page()
    page.goto(link)
    page.get_by_role("heading", name="Dashboard").wait_for()
    page.close()
    return context


def _recording(server: Server, context: BrowserContext, cpu: int) -> Figures:
    """Measures calls while nobody looks, and while three pages are open, in turn."""
    call = create_user("bench")
    taken: dict[str, list[float]] = {"no console": [], "three consoles": []}
    latencies_at(server.port, call, RATE, SECONDS, cpu)  # warms up
    for _ in range(ROUNDS):
        taken["no console"] += latencies_at(server.port, call, RATE, SECONDS, cpu)
        pages = [_opened(context, server, path) for path in _PAGES]
        latencies_at(server.port, call, RATE, 2, cpu)  # the pages load
        taken["three consoles"] += latencies_at(server.port, call, RATE, SECONDS, cpu)
        for page in pages:
            page.close()
    figures = _by_kind("calls, {}", taken, p99=0.99)
    ratio = figures["calls, three consoles: p99 ms"] / figures["calls, no console: p99 ms"]
    return {**figures, "calls, three consoles / none: p99 ratio": ratio}


def _opened(context: BrowserContext, server: Server, path: str) -> Page:
    page = context.new_page()
    page.goto(f"{server.console}/console/{path}")
    page.get_by_role("heading", level=1).wait_for()
    return page


def _under_load(server: Server, context: BrowserContext, cpu: int) -> Figures:
    """Measures pages while calls arrive."""
    measured = threading.Event()

    def call() -> None:
        while not measured.is_set():
            latencies_at(server.port, create_user("bench"), RATE, 5, cpu)

    with ThreadPoolExecutor(1) as pool:
        calls = pool.submit(call)
        try:
            figures = {
                **_loads(server, context),
                **_asked(server, context),
                **_tailed(server, context),
                **_answered(server, context),
            }
        finally:
            measured.set()
        calls.result()
    return figures


def _loads(server: Server, context: BrowserContext) -> Figures:
    """Measures how long it takes until event history has its rows, without and with a cache."""
    taken: dict[str, list[float]] = {"cold": [], "warm": []}
    browser = context.browser
    assert browser is not None
    state = context.storage_state()
    for _ in range(LOADS):
        fresh = browser.new_context(storage_state=state, viewport={"width": 1440, "height": 900})
        page = fresh.new_page()
        for kind in taken:
            began = time.perf_counter()
            page.goto(f"{server.console}/console/events", wait_until="commit")
            page.wait_for_function(_HAS_ROWS)
            taken[kind].append((time.perf_counter() - began) * 1000)
        fresh.close()
    return _by_kind("rows of event history, {}", taken, worst=1.0)


def _asked(server: Server, context: BrowserContext) -> Figures:
    """Measures the calls that a page makes, in the page."""
    page = _opened(context, server, "settings")
    api, search = "/api/v1", "expression=is%3Awrite"
    paths = {
        "page turn": f"{api}/events/rows?{search}&limit=50",
        "histogram": f"{api}/events/histogram?{search}&buckets=60",
        "facets": f"{api}/events/facets?{search}&fields={','.join(FIELDS)}",
        "count": f"{api}/events/count?{search}",
        "overview": f"{api}/events/overview?{search}&buckets=60",
    }
    figures: Figures = {}
    for name, path in paths.items():
        taken = page.evaluate(_ASK, {"path": path, "times": TURNS})
        figures[f"{name}: p50 ms"] = percentile(taken, 0.5)
        figures[f"{name}: p95 ms"] = percentile(taken, 0.95)
    page.close()
    return figures


def _tailed(server: Server, context: BrowserContext) -> Figures:
    """Measures how long after a call its row is on the Live page."""
    page = _opened(context, server, "live")
    page.get_by_text("Connected").wait_for()
    connection, taken = Connection(server.port), []
    for number in range(TAILED):
        name = f"tailed-{number}"
        connection.call(create_user(name))
        began = time.perf_counter()
        page.wait_for_function(
            "name => document.querySelector('.live-rows')?.innerText.includes(name)", arg=name
        )
        taken.append((time.perf_counter() - began) * 1000)
    page.close()
    return {f"live: {part} ms": percentile(taken, s) for part, s in (("p50", 0.5), ("p99", 0.99))}


def _answered(server: Server, context: BrowserContext) -> Figures:
    """Measures from the dashboard to who created a user: three actions, by mouse and by keys."""
    name = "Mary"
    call = create_user(name).replace(b"POST / ", f"POST /?UserName={name} ".encode())
    Connection(server.port).call(call)
    taken: dict[str, list[float]] = {"mouse": [], "keys": []}
    for _ in range(LOADS):
        for kind in taken:
            page = _opened(context, server, "")
            box = page.get_by_role("combobox", name="Search or jump to")
            began = time.perf_counter()
            if kind == "mouse":
                page.get_by_role("button", name="Search or jump to").click()
            else:
                page.keyboard.press("Control+k")
            box.fill(name)
            page.get_by_role("option", name=f"{name} Resources").first.wait_for()
            if kind == "mouse":
                page.get_by_role("option", selected=True).click()
            else:
                page.keyboard.press("Enter")
            answer = page.get_by_role("region", name="Answer")
            answer.filter(has_text="created IAM user").wait_for()
            taken[kind].append((time.perf_counter() - began) * 1000)
            page.close()
    return _by_kind("who created a user, from the dashboard, by {}", taken, worst=1.0)


def _by_kind(name: str, taken: Mapping[str, list[float]], **shares: float) -> Figures:
    """Returns the median and further parts of the milliseconds of each kind."""
    return {
        f"{name.format(kind)}: {part} ms": percentile(values, share)
        for kind, values in taken.items()
        for part, share in {"p50": 0.5, **shares}.items()
    }


BENCHMARKS = {
    f"Console pages: {EVENTS:,} events, {RATE} calls/s": console_pages,
    f"Consoles and calls: {EVENTS:,} events, {RATE} calls/s": consoles_and_calls,
}
