"""The one warning of this room."""

from __future__ import annotations


class MetricWarning(UserWarning):
    """A metric without a value (it is NaN), or one computed on less than was given."""
