"""The exit codes of arguments that argparse itself refuses."""

import pytest

from opentrail.cli import main


def exits(*arguments: str) -> int:
    """Returns the exit code of arguments that argparse itself refuses."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code


def assert_wrong_use(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """Asserts that argparse refuses arguments, with the usage on standard error only."""
    assert exits(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "usage: opentrail" in captured.err
