"""Measurements, which `tfvp benchmark` runs. A wheel carries them as `tfvp.benchmarks`."""
