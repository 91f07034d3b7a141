"""The functions that opentrail needs from an engine, as small protocols."""
