"""Losses: pure functions of prediction and target; each names its equation."""
