"""The error of this room's users."""

from __future__ import annotations


class ModelError(ValueError):
    """A model that cannot be loaded; the message names it and the remedy, in one line."""
