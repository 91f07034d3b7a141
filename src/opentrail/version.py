"""The version of this package, and of the data it writes."""

__version__ = "0.2.0"

#: Layout of the data directory; a server refuses data of a newer layout (exit code 4).
DATA_VERSION = 1
