"""Every error opentrail raises on purpose, by family.

`api/server.py` and `api/console.py` turn a `CloudTrailError` into a response. `cli.py` turns an
error that ends a command into its exit code.
"""

from __future__ import annotations


class OpentrailError(Exception):
    """Anything opentrail refuses or cannot do; the text is fit to show to a user."""

    #: Exit code of a command that ends with this error.
    exit_code = 1


class UsageError(OpentrailError):
    """A flag, setting or argument is wrong."""

    exit_code = 2


class DataDirectoryInUse(OpentrailError):
    """Another server holds the data directory."""

    exit_code = 3


class DataTooNew(OpentrailError):
    """The data directory was written by a newer version."""

    exit_code = 4


class StorageFailed(OpentrailError):
    """The data directory cannot be written or read."""

    exit_code = 74


class JournalDamaged(StorageFailed):
    """A segment of the journal is not what was written to it; `position` is in that segment."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class StoreRestarted(StorageFailed):
    """A store has lost what it held in memory and must be filled again; then it can be asked."""


class RecordRefused(OpentrailError):
    """The journal cannot take a record now; nothing was lost, the call must be refused."""


class JournalBroken(StorageFailed):
    """A sync of the journal failed; what is on disk is unknown until a restart (guarantee D6)."""


class TryLater(OpentrailError):
    """The server cannot be reached or has no room now; the same request may do well later."""


class TokenRefused(OpentrailError):
    """The token is not that of the server that answers, which may be a new one."""


class Conflict(OpentrailError):
    """A document was changed by somebody else since it was read."""


class ObjectStoreError(OpentrailError):
    """The object store refused or failed; `code` is its S3 error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ObjectMissing(ObjectStoreError):
    """No such object, or no such bucket."""


class ObjectExists(ObjectStoreError):
    """An object with this key is there already."""


class ServiceError(OpentrailError):
    """A service beside S3 refused or failed; `code` is its error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ServiceMissing(ServiceError):
    """What was named is not there."""


class CloudTrailError(OpentrailError):
    """An error of the CloudTrail API: `code` is the name that clients see.

    Args:
        code: the shape's name in AWS's model, such as `TrailNotFoundException`.
        message: AWS's text where it is known.
        status: HTTP status; 400 for every modelled exception (cloudtrail-format §1.1).
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class Unsupported(CloudTrailError):
    """An operation or parameter that opentrail does not have yet."""

    def __init__(self, what: str, advice: str | None = None) -> None:
        message = f"opentrail does not support {what} yet"
        message = f"{message}: {advice}" if advice else message
        super().__init__("UnsupportedOperationException", message)
