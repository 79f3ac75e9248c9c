"""What a batch is: lists of prompts, poses and seeds brought to one length."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

_SEEDS = 2**31  # drawn seeds are below this
LARGEST_SEED = 2**63 - 1


def prompt_list(prompt: str | Sequence[str], name: str) -> list[str]:
    """One prompt or many as a list.

    Raises:
        ValueError: an empty list, or something that is not text.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, (list, tuple)) else None
    if prompts is None or not all(isinstance(one, str) for one in prompts):
        raise ValueError(f"{name} must be a text or a list of texts, not {type(prompt).__name__}")
    for one in prompts:
        if any("\ud800" <= letter <= "\udfff" for letter in one):
            raise ValueError(f"{name} {one!r} has half of a letter pair in it (a lone surrogate); type it again")
    if not prompts:
        raise ValueError(f"{name} is an empty list; pass at least one text ('' is allowed)")
    return prompts


def text_list(prompt: str | Sequence[str] | None, embeds: torch.Tensor | None, name: str) -> list[str | torch.Tensor]:
    """Prompts, or in their place the rows (tokens, width) of `embeds` (n, tokens, width).

    Raises:
        ValueError: both, neither, or something else.
    """
    if embeds is None:
        return list(prompt_list(prompt, name))  # type: ignore[arg-type]
    if prompt is not None:
        raise ValueError(f"both {name} and {name}_embeds are given; pass one of them")
    if not isinstance(embeds, torch.Tensor) or embeds.ndim != 3 or not len(embeds):
        raise ValueError(f"{name}_embeds must be a tensor (n, tokens, width)")
    return list(embeds)


def broadcast(lists: Mapping[str, list[Any]], copies: int) -> tuple[list[Any], ...]:
    """Lists of length 1 or n, all brought to n and every entry repeated `copies` times in place.

    Raises:
        ValueError: two lengths above 1, or `copies` below 1.
    """
    if copies < 1:
        raise ValueError(f"num_images_per_prompt is {copies}; it must be at least 1")
    count = max(len(values) for values in lists.values())
    if any(len(values) not in (1, count) for values in lists.values()):
        lengths = ", ".join(f"{len(values)} of {name}" for name, values in lists.items())
        raise ValueError(f"the numbers do not match: {lengths}. Pass as many of each, or a single one for all")
    full = (values if len(values) == count else values * count for values in lists.values())
    return tuple([value for value in values for _ in range(copies)] for values in full)


def image_seeds(
    seed: int | None, generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[int] | None:
    """The seeds of `count` images, seed + i; None where generators are given; drawn where nothing is.

    Raises:
        ValueError: both a seed and generators.
    """
    if generator is not None:
        if seed is not None:
            raise ValueError("both seed and generator are given; pass one of them")
        return None
    if seed is not None and (isinstance(seed, bool) or not hasattr(seed, "__index__")):
        raise ValueError(f"seed is {seed!r}; it must be a whole number")
    if seed is not None and not 0 <= seed <= LARGEST_SEED - count:
        raise ValueError(f"seed is {seed}; it must be from 0 to {LARGEST_SEED} less the number of images")
    if seed is None:
        seed = int(torch.randint(_SEEDS - count, ()).item())
    return [int(seed) + index for index in range(count)]


def make_generators(
    seeds: Sequence[int] | None, generator: torch.Generator | Sequence[torch.Generator] | None, count: int
) -> list[torch.Generator]:
    """One CPU generator per image, from the seeds or as given.

    Raises:
        ValueError: another number of generators than images, or one that lives on a GPU (its numbers would
            depend on the machine).
    """
    if seeds is not None:
        return [torch.Generator().manual_seed(seed) for seed in seeds]
    given = [generator] if isinstance(generator, torch.Generator) else list(generator or [])
    if len(given) != count:
        raise ValueError(
            f"{len(given)} generators for {count} images; pass a list with one per image, or an int as seed"
        )
    foreign = {str(one.device) for one in given if one.device.type != "cpu"}
    if foreign:
        raise ValueError(
            f"generators on {', '.join(sorted(foreign))}; noise is drawn on the CPU so that a seed gives the "
            "same image everywhere: use torch.Generator().manual_seed(...)"
        )
    return given
