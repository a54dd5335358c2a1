"""Published checkpoints of other implementations, turned into runs."""
