"""What opentrail needs from an engine, as small protocols."""
