"""The version of this package, and of the data it writes."""

__version__ = "0.2.0"

#: Version of the formats in the data directory; a server refuses data of a newer one (exit code 4).
#: Each change of a format raises it, and adds a directory of the former one to the tests:
#: 2: the file `written` has the revision of `state.db`, which `user_version` counts; names of files
#: of merged imported events have another hash; a sealed file may lack its expired data events.
DATA_VERSION = 2
