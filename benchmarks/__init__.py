"""Measurements, each run by name: python -m benchmarks.models, python -m benchmarks.loader."""
