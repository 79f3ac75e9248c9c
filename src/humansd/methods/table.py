"""The methods by name. A new one is a file in this room and a line here."""

from __future__ import annotations

from humansd.methods.controlnet import ControlNet
from humansd.methods.dual_adapter import AdapterMix, DotAdapter, DualAdapter, MaskAdapter
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
    MaskAdapter(),
    DualAdapter(),
)
METHODS: dict[str, Method] = {method.name: method for method in _ALL}  # first in the order of the paper's table 1


def find_method(name: str) -> Method:
    """The method of a name; "A+B" is several T2I-Adapters at once, each with its own drawing (`AdapterMix`).

    Raises:
        ValueError: a name that is none's, or of a mix that is no T2I-Adapter's.
    """
    if "+" in name:
        return _mix(name)
    if not name:
        raise ValueError("no method is named; say whose network it is, as in --method controlnet")
    if name not in METHODS:
        raise ValueError(f"method = {name!r} is not known; choose one of {', '.join(METHODS)}")
    return METHODS[name]


def _mix(name: str) -> Method:
    methods = [find_method(one) for one in name.split("+")]
    adapters = [one for one in methods if isinstance(one, Adapter) and not isinstance(one, AdapterMix)]
    if len(adapters) < len(methods):
        known = ", ".join(one.name for one in _ALL if isinstance(one, Adapter))
        raise ValueError(f"method = {name!r}: only T2I-Adapters add up; put + between {known}")
    return AdapterMix(adapters)
