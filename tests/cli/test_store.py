"""Arguments of the commands that look after a server."""

import pytest

from tests.cli.exits import assert_wrong_use


@pytest.mark.parametrize(
    "arguments",
    [
        ("status", "now"),
        ("verify-store", "here"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_wrong_use(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_wrong_use(arguments, capsys)
