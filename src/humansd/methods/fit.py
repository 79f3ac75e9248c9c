"""Whether a network that was loaded is one of the base beside it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def check_pairs(kind: str, pairs: Mapping[str, tuple[Any, Any]]) -> None:
    """ValueError where a setting of a network of this `kind` is not what the base asks for.

    pairs: name -> (the network's, the one that the base asks for).
    """
    plain = {name: [list(one) if isinstance(one, tuple) else one for one in pair] for name, pair in pairs.items()}
    odd = [f"{name} is {own}, not {asked}" for name, (own, asked) in plain.items() if own != asked]
    if odd:
        raise ValueError(
            f"pose_network: a {kind} of another base than this UNet and VAE ({'; '.join(odd)}); use one of this base's "
            "family, Stable Diffusion 1 or 2, that reads an RGB drawing"
        )
