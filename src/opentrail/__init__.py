"""opentrail: the CloudTrail that anyone can run."""

from opentrail.core.version import __version__

__all__ = ["__version__"]
