"""Evaluation: loss over every token, metrics with intervals, baselines, lm-evaluation-harness."""
