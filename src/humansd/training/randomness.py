"""Everything random about a training sample comes from (seed, global sample index)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

GOLDEN = 0.6180339887498949


@dataclass(frozen=True)
class SampleDraw:
    """What is random about one training sample.

    row: of the image cache. augmentation: its number, 0 for the image as it is. caption: one of the row's wordings, ""
    where the text is dropped. drops_pose: whether the pose is. noise: (c, h, w). timestep: of the noise schedule.
    """

    row: int
    augmentation: int
    caption: str
    drops_pose: bool
    noise: torch.Tensor
    timestep: int


def sample_rng(seed: int, index: int) -> np.random.Generator:
    """The generator of global sample `index`."""
    return np.random.default_rng((seed, index))


def sample_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal noise, fp32, `shape`."""
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def nearest_noise(rng: np.random.Generator, latents: np.ndarray, candidates: int) -> torch.Tensor:
    """Of so many standard normal noises the one nearest to `latents`, fp32 in their shape (Li et al. 2025, "Improved
    Immiscible Diffusion", sec. 3: k nearest neighbors). The first candidate is what `sample_noise` would give."""
    found = np.stack([rng.standard_normal(latents.shape, dtype=np.float32) for _ in range(candidates)])
    away = np.square(found - latents[None].astype(np.float32)).reshape(candidates, -1).sum(axis=1)
    return torch.from_numpy(found[int(away.argmin())])


def noise_seed(seed: int, index: int) -> int:
    """The seed of what else may be random about global sample `index`, apart from its generator's numbers."""
    return int(np.random.SeedSequence((seed, index, 1)).generate_state(1, np.uint64)[0] >> 1)


def data_row(seed: int, index: int, count: int) -> int:
    """The row of the data that global sample `index` uses: a fresh permutation each epoch."""
    epoch, place = divmod(index, count)
    return int(_permutation(seed, epoch, count)[place])


def even_timestep(seed: int, index: int, steps: int) -> int:
    """Uniform on 0..steps-1, and evenly spread over any run of samples (a Weyl sequence)."""
    return int(steps * ((seed * 0.7548776662 + index * GOLDEN) % 1.0))


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, count: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch, count)).permutation(count)
