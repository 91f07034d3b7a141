"""Every error opentrail raises on purpose, by family.

`api/` turns a `CloudTrailError` into a response. `cli.py` turns an error that ends a command into
its exit code.
"""

from __future__ import annotations


class OpentrailError(Exception):
    """Base of all errors that opentrail raises; the message may be shown to users."""

    #: Exit code of a command that ends with this error.
    exit_code = 1


class UsageError(OpentrailError):
    """A flag, setting or argument is wrong."""

    exit_code = 2


class MalformedPolicy(OpentrailError):
    """A policy document is not valid; the message is AWS's where known."""


class DataDirectoryInUse(OpentrailError):
    """Another server has locked the data directory or uses the same journal."""

    exit_code = 3


class DataTooNew(OpentrailError):
    """The data directory was written by a newer version."""

    exit_code = 4


class NothingToDecide(OpentrailError):
    """A verdict would rest on nothing: no record, call, event or file."""

    exit_code = 5


class StorageFailed(OpentrailError):
    """The data directory cannot be written or read."""

    exit_code = 74


#: AWS's message for `InternalFailure`; the log has the cause, which may name files.
INTERNAL_FAILURE = (
    "The request processing has failed because of an unknown error, exception or failure."
)
_UNREACHABLE = "The request has failed: {} cannot be reached. Try again later."


class StoreUnreachable(StorageFailed):
    """The control store is on another machine and does not answer; a later attempt may succeed."""

    #: The message for clients; the log has the cause, which may name files.
    public_text = _UNREACHABLE.format("the control store")


#: A reason that clients may read.
DISK_FULL = "the server's disk is full"


class DiskFull(StoreUnreachable):
    """Nothing more can be stored; a later attempt may succeed."""

    public_text = f"The request has failed: {DISK_FULL}. Try again later."


class FilesUnreachable(StoreUnreachable):
    """Files of event history in S3 cannot be read; a later attempt may succeed."""

    public_text = _UNREACHABLE.format("files of event history in S3")


class StateLost(StorageFailed):
    """The control store was replaced, and no operator accepted that."""


class SigningKeyUnavailable(StorageFailed):
    """No key may sign digests now."""


class JournalDamaged(StorageFailed):
    """A segment's content is damaged; `position` is in that segment."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(message)
        self.position = position


class StoreRestarted(StorageFailed):
    """A store has lost its memory and must be refilled before it answers queries."""


class RecordRefused(OpentrailError):
    """The journal cannot accept a record now; nothing was lost, the call must be refused."""


class LeaseLost(OpentrailError):
    """Another process has, or had, the lease; nothing was changed."""


class TryLater(OpentrailError):
    """The server cannot be reached or is overloaded; a later retry may succeed."""


class TokenRefused(OpentrailError):
    """The server rejected the token; it may have been replaced by a new server."""


class SignInRefused(OpentrailError):
    """A wrong name or password; `is_known` is whether the user exists."""

    def __init__(self, message: str, is_known: bool) -> None:
        super().__init__(message)
        self.is_known = is_known


class TooManyTries(OpentrailError):
    """There were too many recent sign-in attempts; the password was not checked."""


class PasswordChangeNeeded(OpentrailError):
    """A correct password that must be replaced before anything else."""


class Conflict(OpentrailError):
    """A document was changed since it was read."""


class ObjectStoreError(OpentrailError):
    """The object store refused or failed; `code` is its S3 error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ObjectMissing(ObjectStoreError):
    """The object or bucket does not exist."""


class ObjectExists(ObjectStoreError):
    """An object with this key exists."""


class ObjectTaken(ObjectStoreError):
    """An object of another process already has the key."""


class ServiceError(OpentrailError):
    """A service other than S3 refused or failed; `code` is its error code."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ServiceMissing(ServiceError):
    """The named resource does not exist."""


class CloudTrailError(OpentrailError):
    """An error of the CloudTrail API: `code` is the name that clients see.

    Args:
        code: the shape's name in AWS's model, such as `TrailNotFoundException`.
        message: AWS's where known.
        status: HTTP status; 400 for every modelled exception (cloudtrail-format §1.1).
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class AuditEventRefused(OpentrailError):
    """An event that a channel does not accept; `code` is AWS's for events of `PutAuditEvents`."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Throttled(CloudTrailError):
    """A lookup that this server cannot answer yet; SDKs repeat it."""

    def __init__(self, message: str) -> None:
        super().__init__("ThrottlingException", message)


class NoHistory(CloudTrailError):
    """A request for events reached a server without event history."""

    def __init__(self) -> None:
        super().__init__(
            "OperationNotPermittedException",
            "This server has the role recorder and keeps no event history: "
            "ask a server with another role.",
        )


class StatementRefused(OpentrailError):
    """A SQL statement is wrong or not supported; the message has its place, `line 1:8: …`."""


class FilesChanged(OpentrailError):
    """Files in S3 were replaced, and the journal was trimmed, before a query could read them."""


class StoreInactive(StatementRefused):
    """A SQL statement names an event data store that is being deleted."""


class QueryFailed(OpentrailError):
    """A query ended with an error; the message is for the user who started it."""


class Unsupported(CloudTrailError):
    """An operation or parameter that opentrail does not have yet."""

    def __init__(self, what: str) -> None:
        super().__init__("UnsupportedOperationException", f"opentrail does not support {what} yet")
