"""opentrail: the CloudTrail that anyone can run."""

from opentrail.version import __version__

__all__ = ["__version__"]
