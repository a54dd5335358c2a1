"""Training: the loop, its checks, validation, records and backups."""
