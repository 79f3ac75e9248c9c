"""Evaluation: generate, measure, report."""
