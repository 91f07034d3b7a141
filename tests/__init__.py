"""Tests of opentrail; the folders mirror src/opentrail."""

from hypothesis import settings

# A machine may be busy with others: how long an example takes proves nothing.
settings.register_profile("opentrail", deadline=None)
settings.load_profile("opentrail")
