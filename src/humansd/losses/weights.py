"""Maps that weigh the squared denoising error of a latent position: 1 where nobody is, more where people are."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from humansd.pose.maps import person_mask
from humansd.pose.people import People

OVERSAMPLING = 4


def skeleton_mask(
    people: People, size: tuple[int, int], strength: float, own: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """w = 1 + strength * M, float32 (1, h, w); M in 0..1 is the share of a position that people cover.

    The mask comes from the key points alone (`pose.maps.person_mask`), so any data set will do and no estimator runs:
    Break-A-Scene's masked diffusion loss (Avrahami et al. 2023, Eq. 2), softened so that the rest still counts.

    Args:
        size: (width, height) of the latent.
        strength: >= 0; 0 gives the plain loss.
        own: the image's own mask (H, W), 0..1, in place of that of the key points.
    """
    width, height = size
    if own is None:
        own = (person_mask(people, (width * OVERSAMPLING, height * OVERSAMPLING)) > 0).astype(np.float32)
    cover = cv2.resize(own, (width, height), interpolation=cv2.INTER_AREA)
    return (1 + strength * cover)[None].astype(np.float32)


def mask_share(schedule: str, timesteps: Tensor, steps: int) -> Tensor:
    """How much of a mask's strength counts at each timestep, 0..1, as `timesteps`.

    schedule: "constant"; "early": most where there is most noise, where sampling begins and the layout is decided;
    "late": most where there is least, where limbs get their edges. Both are linear in the timestep.
    """
    place = timesteps.float() / max(1, steps - 1)
    return {"constant": torch.ones_like(place), "early": place, "late": 1 - place}[schedule]


def mean_one(weight: Tensor) -> Tensor:
    """Every sample's w (n, 1, h, w) divided by its mean, so that the size of the loss stays."""
    return weight / weight.mean(dim=(1, 2, 3), keepdim=True)


# The loss of a preset -> what makes its weight map, from (people, latent size, strength, own mask or None); None: all
# positions alike.
MapMaker = Callable[[People, tuple[int, int], float, NDArray[np.float32] | None], NDArray[np.float32]]
WEIGHT_MAPS: dict[str, MapMaker | None] = {
    "ldm": None,  # HumanSD Eq. 1
    "skeleton-mask": skeleton_mask,
}
