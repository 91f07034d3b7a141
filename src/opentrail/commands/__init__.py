"""The commands of `opentrail`."""
