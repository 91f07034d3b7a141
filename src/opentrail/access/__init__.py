"""Who may call: the access keys that opentrail itself has made or imported."""
