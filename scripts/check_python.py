"""Prints why opentrail cannot use this Python, and exits with status 1; runs on any Python."""

import importlib
import platform
import sys

#: Also in README.md and pyproject.toml.
OLDEST = (3, 11)
NEWEST_TESTED = (3, 13)
#: Modules of the standard library that some builds lack.
MODULES = ("ctypes", "sqlite3", "ssl", "zlib")


def is_importable(module):
    # type: (str) -> bool
    try:
        importlib.import_module(module)
    except ImportError:
        return False
    return True


def main():
    # type: () -> str
    version = "%d.%d.%d" % sys.version_info[:3]
    missing = [module for module in MODULES if not is_importable(module)]
    gil = getattr(sys, "_is_gil_enabled", None)
    if platform.python_implementation() != "CPython":
        return "it is " + platform.python_implementation() + ", and opentrail needs CPython"
    if sys.version_info < OLDEST:
        return "it is " + version + ", and opentrail needs 3.11 or newer"
    if gil is not None and not gil():
        return "it is free-threaded, and opentrail's packages are not built for that"
    if missing:
        return "it was built without " + ", ".join(missing)
    if sys.version_info[:2] > NEWEST_TESTED:
        sys.stderr.write("opentrail is tested only up to Python %d.%d, " % NEWEST_TESTED)
        sys.stderr.write("and this is " + version + "\n")
    return ""


if __name__ == "__main__":
    problem = main()
    print(problem)
    sys.exit(problem != "")
