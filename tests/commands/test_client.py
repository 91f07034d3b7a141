"""Calling a running server."""

import argparse
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from opentrail.commands.client import ask, find, find_as
from opentrail.core.errors import OpentrailError, TokenRefused, TryLater, UsageError
from tests.stub_console import TOKEN, StubConsole, stub_console


@pytest.fixture
def console(tmp_path: Path) -> Iterator[StubConsole]:
    with stub_console(tmp_path / "data") as stub:
        yield stub


def options(data_dir: Path | None = None, endpoint: str | None = None) -> argparse.Namespace:
    return argparse.Namespace(data_dir=data_dir and str(data_dir), endpoint=endpoint)


# Requests


def test_question_is_a_get_with_the_folders_token(console: StubConsole) -> None:
    console.answers({"events": []})
    assert ask(options(console.data_dir), "/api/v1/events", {}) == {"events": []}
    (asked,) = console.asked
    assert asked.method == "GET"
    assert asked.path.partition("?")[0] == "/api/v1/events"
    assert asked.authorization == f"Bearer {TOKEN}"


def test_given_parameters_are_quoted_and_others_left_out(console: StubConsole) -> None:
    query = {"attribute": "Username=a&b é", "since": None, "limit": "5"}
    ask(options(console.data_dir), "/api/v1/events", query)
    assert console.asked[0].path == "/api/v1/events?attribute=Username%3Da%26b+%C3%A9&limit=5"


def test_a_body_makes_it_a_post(console: StubConsole) -> None:
    ask(options(console.data_dir), "/api/v1/trails/flush", {}, {"name": "my-trail"})
    assert console.asked[0].method == "POST"
    assert json.loads(console.asked[0].body) == {"name": "my-trail"}


def test_an_empty_body_is_a_body(console: StubConsole) -> None:
    ask(options(console.data_dir), "/api/v1/x", {}, {})
    assert console.asked[0].method == "POST"


def test_a_body_may_have_parts(console: StubConsole) -> None:
    console.answers({"done": True})
    parts = [b"one\n", b"", b"\x00\xff" * 100_000]
    answer = find(options(console.data_dir)).send("/x", parts, 10.0)
    assert answer == {"done": True}
    assert console.asked[0].body == b"".join(parts)


def test_lines_report_the_progress_of_reading(console: StubConsole) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
    read: list[tuple[int, int | None]] = []

    def send(body: bytes) -> object:
        console.raw = head + body
        return find(options(console.data_dir)).send(
            "/x", [b""], 10.0, lambda *progress: read.append(progress)
        )

    assert send(b'{"read":1}\n{"read":2,"total":3}\n{"files":[]}\n') == {"files": []}
    assert read == [(1, None), (2, 3)]
    with pytest.raises(TryLater, match="the disk is full"):
        send(b'{"read":1}\n{"error":"the disk is full","code":"x","status":503}\n')
    with pytest.raises(TryLater, match="was cut"):
        send(b'{"read":1}\n')


# Finding the server


def test_the_server_is_found_by_the_environment(
    console: StubConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENTRAIL_DATA_DIR", str(console.data_dir))
    assert ask(options(), "/x", {}) == {}


def test_the_server_is_found_in_the_default_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENTRAIL_DATA_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    with stub_console(tmp_path / "opentrail-data"):
        assert ask(options(), "/x", {}) == {}


def test_a_given_folder_precedes_the_environment(
    console: StubConsole, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OPENTRAIL_DATA_DIR", str(tmp_path / "elsewhere"))
    assert ask(options(console.data_dir), "/x", {}) == {}


@pytest.mark.parametrize("slash", ["", "/"])
def test_an_endpoint_precedes_the_address_in_the_folder(
    console: StubConsole, tmp_path: Path, slash: str
) -> None:
    folder = tmp_path / "moved"
    folder.mkdir()
    moved = {"console": "http://127.0.0.1:1", "token": TOKEN}
    (folder / "server.json").write_text(json.dumps(moved))
    assert ask(options(folder, console.url + slash), "/x", {}) == {}


def test_a_proxy_of_the_environment_is_ignored(
    console: StubConsole, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert ask(options(console.data_dir), "/x", {}) == {}


# Errors


def test_a_folder_without_a_server_is_wrong_use(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as wrong:
        ask(options(tmp_path), "/x", {})
    assert str(tmp_path) in str(wrong.value)
    assert "--data-dir" in str(wrong.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"console": "http://x"}', "null"])
def test_an_empty_server_description_is_a_usage_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "server.json").write_text(text)
    with pytest.raises(UsageError) as wrong:
        ask(options(tmp_path), "/x", {})
    assert str(tmp_path) in str(wrong.value)


def test_aws_endpoint_is_read_from_the_server_description(console: StubConsole) -> None:
    assert find(options(console.data_dir)).aws_endpoint is None
    file = console.data_dir / "server.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "endpoint": "http://x:1"}))
    assert find(options(console.data_dir)).aws_endpoint == "http://x:1"


@pytest.mark.parametrize("endpoint", ["localhost:4748", "nonsense", "ftp://x"])
def test_an_invalid_endpoint_is_wrong_use(console: StubConsole, endpoint: str) -> None:
    with pytest.raises(OpentrailError) as wrong:
        ask(options(console.data_dir, endpoint), "/x", {})
    assert endpoint in str(wrong.value)


def test_a_silent_server_is_named(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        (tmp_path / "server.json").write_text(json.dumps({"console": url, "token": "t"}))
        with pytest.raises(OpentrailError) as wrong:
            ask(options(tmp_path), "/x", {})
    assert url in str(wrong.value)
    assert wrong.value.exit_code == 1


@pytest.mark.parametrize(
    "code",
    [
        "InvalidLookupAttributesException",
        "InvalidMaxResultsException",
        "InvalidTimeRangeException",
    ],
)
def test_a_wrong_question_is_wrong_use(console: StubConsole, code: str) -> None:
    console.answers({"code": code, "error": "expected ATTRIBUTE=VALUE"}, 400)
    with pytest.raises(UsageError, match="expected ATTRIBUTE=VALUE"):
        ask(options(console.data_dir), "/x", {})


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_busy_server_may_be_called_later(console: StubConsole, status: int) -> None:
    console.answers({"code": "ServiceUnavailable", "error": "the disk does not keep up"}, status)
    with pytest.raises(TryLater, match="the disk does not keep up"):
        ask(options(console.data_dir), "/x", {})


def test_an_unreachable_server_may_be_called_later(console: StubConsole) -> None:
    said = "no server answers at http://127.0.0.1:1: Connection refused"
    with pytest.raises(TryLater, match=said):
        ask(options(console.data_dir, "http://127.0.0.1:1"), "/x", {})


def test_the_aws_endpoint_is_not_the_console(console: StubConsole) -> None:
    file = console.data_dir / "server.json"
    described = json.loads(file.read_text())
    file.write_text(json.dumps({**described, "endpoint": "http://127.0.0.1:4747"}))
    said = f"http://127.0.0.1:4747 is the AWS endpoint; .* is {described['console']}"
    with pytest.raises(UsageError, match=said):
        find(options(console.data_dir, "http://127.0.0.1:4747/"))


def test_a_refusal_has_the_servers_reason(console: StubConsole) -> None:
    console.answers({"code": "TrailNotFoundException", "error": "Unknown trail: x"}, 404)
    with pytest.raises(OpentrailError, match="Unknown trail: x") as refused:
        ask(options(console.data_dir), "/x", {})
    assert not isinstance(refused.value, UsageError)


@pytest.mark.parametrize(
    "body", [b"", b"<html>502</html>", b"{}", b"[]", b"null", b'{"error": null}', b"\xff"]
)
def test_a_refusal_without_a_reason_shows_the_status(console: StubConsole, body: bytes) -> None:
    console.status, console.body = 502, body
    with pytest.raises(OpentrailError, match="502"):
        ask(options(console.data_dir), "/x", {})


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"{", b"\xff"])
def test_an_invalid_json_answer_is_our_error(console: StubConsole, body: bytes) -> None:
    console.body = body
    with pytest.raises(OpentrailError) as wrong:
        ask(options(console.data_dir), "/x", {})
    assert console.url in str(wrong.value)


@pytest.mark.parametrize("raw", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_another_listener_is_our_error(console: StubConsole, raw: bytes) -> None:
    console.raw = raw
    with pytest.raises(OpentrailError) as wrong:
        ask(options(console.data_dir), "/x", {})
    assert console.url in str(wrong.value)


# Endless answers


def lines_of(console: StubConsole, **query: str) -> list[dict[str, object]]:
    with find(options(console.data_dir)).lines("/api/v1/tail", query, 5) as answer:
        return [line for lines in answer for line in lines]


def test_lines_arrive_when_they_are_sent(console: StubConsole) -> None:
    long = "x" * 700_000
    console.body = b'{"a": 1}\n{"b": "' + long.encode() + b'"}\n{"c": "\\n"}\n'
    assert lines_of(console, expression="user=a b") == [{"a": 1}, {"b": long}, {"c": "\n"}]
    assert console.asked[0].path == "/api/v1/tail?expression=user%3Da+b"
    console.body = b""
    assert lines_of(console) == []


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        CHUNKED + b'9\r\n{"a": 1}\n\r\n',
        CHUNKED + b'9\r\n{"a": 1}\n\r\n9\r\n{"a"',
        CHUNKED + b'9\r\n{"a": 1}\n\r\n5\r\n{"a":\r\n0\r\n\r\n',
    ],
)
def test_cut_answer_is_an_error_after_its_lines(console: StubConsole, raw: bytes) -> None:
    console.raw = raw
    found: list[object] = []

    def read() -> None:
        with find(options(console.data_dir)).lines("/x", {}, 5) as answer:
            for lines in answer:
                found.extend(lines)

    with pytest.raises(TryLater):
        read()
    assert found == [{"a": 1}]


def test_the_readers_errors_are_not_the_servers(
    console: StubConsole,
) -> None:
    console.body = b"{}\n"

    def read() -> None:
        with find(options(console.data_dir)).lines("/x", {}) as answer:
            for _ in answer:
                raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        read()


@pytest.mark.parametrize("body", [b"<html>\n", b"[]\n", b"\xff\n"])
def test_invalid_json_lines_are_our_error(console: StubConsole, body: bytes) -> None:
    console.body = body
    with pytest.raises(OpentrailError, match="not an opentrail server"):
        lines_of(console)


def test_a_refused_token_is_distinguished_from_other_refusals(console: StubConsole) -> None:
    console.answers({"error": "a valid token is needed"}, 401)
    with pytest.raises(TokenRefused, match="valid token"):
        lines_of(console)


def test_a_users_token_may_be_used(console: StubConsole) -> None:
    for given in (options(console.data_dir), options(endpoint=console.url)):
        server = find_as(given, "ot_ann")
        assert (server.url, server.token) == (console.url, "ot_ann")
