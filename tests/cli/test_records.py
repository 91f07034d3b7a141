"""Arguments of imports and trails."""

import pytest

from tests.cli.exits import exits


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
    assert exits(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: opentrail" in captured.err
