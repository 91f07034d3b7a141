from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from opentrail.api.console.web import Assets
from tests.api.caller import Answer, send
from tests.fakes import asynchronous

PAGE, SCRIPT = b"<!doctype html>", b"let x = 1;"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "assets").mkdir()
    (tmp_path / "index.html").write_bytes(PAGE)
    (tmp_path / "assets" / "main-1a2b.js").write_bytes(SCRIPT)
    (tmp_path / "assets" / "main-1a2b.js.gz").write_bytes(gzip.compress(SCRIPT))
    return tmp_path


async def get(folder: Path, path: str, accepted: str = "") -> Answer:
    app = Starlette(routes=[Route("/console/{path:path}", Assets(folder).answer)])
    return await send(app, "GET", f"/console/{path}", {"accept-encoding": accepted})


@pytest.mark.parametrize("path", ["", "events/4adceac0-5af7", "trails/new", "index.html"])
@asynchronous
async def test_pages_are_one_file_with_revalidation(path: str, folder: Path) -> None:
    answer = await get(folder, path)
    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/html")


@asynchronous
async def test_built_files_are_cached_permanently_and_compressed(folder: Path) -> None:
    plain = await get(folder, "assets/main-1a2b.js")
    assert plain.body == SCRIPT
    assert "immutable" in plain.headers["cache-control"]
    assert "javascript" in plain.headers["content-type"]
    small = await get(folder, "assets/main-1a2b.js", "br;q=1, gzip")
    assert small.headers["content-encoding"] == "gzip"
    assert gzip.decompress(small.body) == SCRIPT


@pytest.mark.parametrize("path", ["assets/none.js", "../secret.txt", "assets/../../secret.txt"])
@asynchronous
async def test_other_files_are_not_served(path: str, folder: Path) -> None:
    (folder.parent / "secret.txt").write_text("secret")
    answer = await get(folder, path)
    assert answer.status == 404


@asynchronous
async def test_without_built_files_the_page_explains_the_build(tmp_path: Path) -> None:
    answer = await get(tmp_path, "")
    assert answer.status == 503
    assert b"pip install" in answer.body
