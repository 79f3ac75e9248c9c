"""Numbers of things in a sentence."""

from __future__ import annotations


def people_text(count: int) -> str:
    """ "1 person", "2 people"."""
    return "1 person" if count == 1 else f"{count} people"
