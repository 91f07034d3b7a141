"""Cases of one test: a loop costs less than thousands of parameters, and also names the case."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def case(name: str) -> Iterator[None]:
    """Adds the name of the case to any failure in it."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"in the case {name}")
        raise
