"""The methods by name. A new one is a file in this room and a line here."""

from __future__ import annotations

from humansd.methods.controlnet import ControlNet
from humansd.methods.dual_adapter import DotAdapter, DualAdapter
from humansd.methods.gligen import Gligen
from humansd.methods.humansd import HumanSD
from humansd.methods.joint_maps import JointMaps
from humansd.methods.protocol import Method
from humansd.methods.sd import StableDiffusion
from humansd.methods.t2i_adapter import Adapter

_ALL: tuple[Method, ...] = (
    StableDiffusion(),
    Gligen(),
    Adapter(),
    ControlNet(),
    HumanSD(),
    JointMaps(),
    DotAdapter(),
    DualAdapter(),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}  # first in the order of the paper's table 1


def find_method(name: str) -> Method:
    """ValueError for a name that is none's."""
    if name not in METHODS:
        raise ValueError(f"method = {name!r} is not known; choose one of {', '.join(METHODS)}")
    return METHODS[name]
