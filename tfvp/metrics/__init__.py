"""Metrics: one file each, entered in the registry by name, and the protocols they are used in."""
