"""The exit codes of arguments that argparse itself judges."""

import pytest

from opentrail.cli import main


def exits(*arguments: str) -> int:
    """Returns the exit code of arguments that argparse itself judges."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert isinstance(ended.value.code, int)
    return ended.value.code
