"""`opentrail import`: finds files, sends them in batches, tells what came of every line."""
