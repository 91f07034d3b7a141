"""Runs the command line: python -m opentrail."""

from opentrail.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
