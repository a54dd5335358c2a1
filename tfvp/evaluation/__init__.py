"""Evaluation: rollouts, scores, reports and comparisons."""
