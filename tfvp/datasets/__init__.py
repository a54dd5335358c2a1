"""Data sets: one file each, entered in the registry by name."""
