"""Arguments of keys, policies and users."""

import pytest

from tests.cli.exits import assert_wrong_use


@pytest.mark.parametrize(
    "arguments",
    [
        ("keys",),
        ("keys", "create"),
        ("keys", "create", "--user", "a", "--root"),
        ("keys", "disable"),
        ("policies", "attach", "p"),
        ("policies", "put"),
        ("users",),
        ("users", "create", "john"),
        ("users", "delete"),
        ("console", "now"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_wrong_use(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_wrong_use(arguments, capsys)
