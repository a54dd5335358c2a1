"""From files to batches: shards, windows, draws."""
