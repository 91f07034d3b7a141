"""Arguments of imports and trails."""

import pytest

from tests.cli.exits import assert_wrong_use


@pytest.mark.parametrize(
    "arguments",
    [
        ("import",),
        ("import", "--rejected"),
        ("trail",),
        ("trail", "fly"),
        ("trail", "flush"),
        ("validate",),
    ],
    ids=" ".join,
)
def test_wrong_arguments_are_wrong_use(
    arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert_wrong_use(arguments, capsys)
