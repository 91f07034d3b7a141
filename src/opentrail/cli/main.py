"""Runs a command: arguments in, exit codes out."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Sequence

from opentrail.cli.parser import parser
from opentrail.core.errors import OpentrailError, StorageFailed


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns its exit code."""
    _open_closed_streams()
    try:
        try:
            options = parser().parse_args(arguments)
            return int(options.run(options))
        finally:
            sys.stdout.flush()
    except OpentrailError as error:
        print(f"opentrail: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        _discard_output()
        return 0
    except OSError as error:
        _discard_output()
        named = f"{error.filename}: " if error.filename else "output cannot be written: "
        print(f"opentrail: {named}{error.strerror or error}", file=sys.stderr)
        return StorageFailed.exit_code
    except KeyboardInterrupt:
        return 130


def _open_closed_streams() -> None:
    """Opens standard streams that were closed, so that a write to them has a clear error."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            with contextlib.suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_RDONLY), number)
                setattr(sys, name, os.fdopen(number, "w", closefd=False))


def _discard_output() -> None:
    """Discards pending output, so that the exit does not fail again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
