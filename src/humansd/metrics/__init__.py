"""Metrics: pure functions of what was wanted and what was found; each names its source."""
