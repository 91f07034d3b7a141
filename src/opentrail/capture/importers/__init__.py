"""Reads files of CloudTrail records that others wrote; all that is not taken is named (N5)."""

from opentrail.capture.importers.documents import read_file
from opentrail.capture.importers.records import DIGEST_FILE, Rejected, Taken

__all__ = ["DIGEST_FILE", "Rejected", "Taken", "read_file"]
