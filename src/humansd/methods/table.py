"""The methods by name. A new one is a file in this room and a line here."""

from __future__ import annotations

from humansd.methods.humansd import HumanSD
from humansd.methods.protocol import Method
from humansd.methods.sd import StableDiffusion

METHODS: dict[str, Method] = {method.name: method for method in (StableDiffusion(), HumanSD())}


def find_method(name: str) -> Method:
    """ValueError for a name that is none's."""
    if name not in METHODS:
        raise ValueError(f"method = {name!r} is not known; choose one of {', '.join(METHODS)}")
    return METHODS[name]
