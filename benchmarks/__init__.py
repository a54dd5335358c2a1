"""Measurements: python -m benchmarks (models), python -m benchmarks.loader, python -m benchmarks.svg_prior."""
