"""Arguments of searches."""

import pytest

from tests.cli.exits import assert_wrong_use


@pytest.mark.parametrize(
    "arguments",
    [
        ("lookup", "a=b", "c=d"),
        ("lookup", "--limit"),
        ("who",),
        ("who", "Mary", "John"),
        ("tail", "a=b", "c=d"),
        ("tail", "--since", "2020-01-01"),
        ("export",),
        ("export", "a=b"),
        ("export", "--csv", "here", "--ndjson", "there"),
        ("insights", "fly"),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_wrong_use(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_wrong_use(arguments, capsys)
