"""The documentation site: built strictly, read in a browser from a folder, without a network."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from playwright.sync_api import expect

from tests.live.browser import running_chromium
from tests.live.processes import BIN, TIMEOUT_SECONDS

ROOT = Path(__file__).parent.parent.parent

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("zensical") is None, reason="Zensical is missing: make docs"
    ),
    pytest.mark.campaign,
]


class Page(HTMLParser):
    """The links, anchors and loaded files of a page."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: set[str] = set()
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.anchors |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(BIN / "zensical"), "build", "--strict"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def sources(folder: Path) -> Path:
    """Copies the sources of the site."""
    shutil.copytree(ROOT / "docs", folder / "docs")
    shutil.copy(ROOT / "zensical.toml", folder)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = sources(tmp_path_factory.mktemp("docs"))
    done = build(folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {file: Page(file) for file in site.rglob("*.html") if file.name != "404.html"}


def test_every_page_exists(site: Path) -> None:
    written = {file.relative_to(ROOT / "docs").with_suffix("") for file in _markdown()}
    assert {file.relative_to(site).with_suffix("") for file in site.rglob("*.html")} >= written


def _markdown() -> list[Path]:
    return list((ROOT / "docs").rglob("*.md"))


def test_links_and_anchors_lead_somewhere(pages: dict[Path, Page]) -> None:
    broken = []
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            if target.is_dir():
                target /= "index.html"
            anchor = unquote(parts.fragment)
            is_there = target in pages and (not anchor or anchor in pages[target].anchors)
            if not is_there and (target in pages or not target.is_file()):
                broken.append(f"{file.name}: {link}")
    assert broken == []


def test_pages_name_no_file_of_another_host(pages: dict[Path, Page], site: Path) -> None:
    loaded = {url for page in pages.values() for url in page.loaded}
    assert loaded
    assert [url for url in loaded if urlsplit(url).netloc] == []
    styles = "".join(file.read_text() for file in site.rglob("*.css"))
    assert re.findall(r"(?:url\(|@import )[\"']?https?://[^)\s]*", styles) == []


def test_search_knows_every_page(site: Path) -> None:
    index = json.loads((site / "search.json").read_text())
    found = {item["location"].partition("#")[0] for item in index["items"]}
    assert found >= {
        str(file.relative_to(ROOT / "docs").with_suffix(".html")) for file in _markdown()
    }


@pytest.mark.parametrize("width", [1280, 390])
def test_pages_work_in_a_folder_without_network(site: Path, width: int) -> None:
    requests, errors = list[str](), list[str]()
    with running_chromium() as chromium:
        page = chromium.new_page(viewport={"width": width, "height": 900})
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        for name in ("index", "howto/in-front-of-moto", "reference/errors"):
            page.goto(f"file://{site}/{name}.html")
            wider = "document.scrollingElement.scrollWidth - window.innerWidth"
            assert page.evaluate(wider) <= 0, name
        page.keyboard.press("/")
        page.keyboard.type("seaweedfs")
        found = page.get_by_role("option").filter(has_text="SeaweedFS")
        expect(found.first).to_be_visible()
    assert errors == []
    assert [url for url in requests if not url.startswith(("file:", "data:", "blob:"))] == []


@pytest.mark.parametrize(
    "wrong",
    ["[in another folder](upgrade.md)", "[no such part](howto/upgrade.md#missing)"],
)
def test_a_broken_link_fails_the_build(wrong: str, tmp_path: Path) -> None:
    folder = sources(tmp_path)
    with (folder / "docs/index.md").open("a") as file:
        file.write(f"\n{wrong}\n")
    assert build(folder).returncode != 0
