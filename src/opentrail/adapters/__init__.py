"""Engines behind the ports; only opentrail.app imports these."""
