"""Whether the CLIP that measures a model is the model itself: then its verdict on the prompts proves little."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from humansd.models.clip_similarity import ClipScorer
from humansd.models.digests import networks_digest

SHARED = 0.9  # cosine of the weights; those of towers that were trained apart are nearly at right angles


def compare_text_models(text_encoder: nn.Module, scorer: ClipScorer) -> dict[str, Any]:
    """The model's text encoder beside the text tower of the CLIP.

    Returns: `equal`: the same weights to the last bit; `cosine`: the mean cosine of the matrices that both have under
    one name in one shape, None where there is none; `shared`: equal, or so alike that one was trained from the other.
    """
    own, (clip,) = _weights(text_encoder), scorer.networks
    text_model: nn.Module = clip.get_submodule("text_model")
    theirs = _weights(text_model)
    equal = own.keys() == theirs.keys() and networks_digest([_Bare(own)]) == networks_digest([_Bare(theirs)])
    both = [name for name in own if name in theirs and own[name].shape == theirs[name].shape and own[name].ndim > 1]
    cosines = [torch.cosine_similarity(own[n].flatten(), theirs[n].flatten(), dim=0).item() for n in both]
    cosine = sum(cosines) / len(cosines) if cosines else None
    return {"equal": equal, "cosine": cosine, "shared": equal or (cosine is not None and cosine > SHARED)}


def _weights(text_model: nn.Module) -> dict[str, Tensor]:
    """By name, without the prefix that some classes put before all; fp32, on the CPU."""
    return {
        name.removeprefix("text_model."): value.detach().float().cpu()
        for name, value in text_model.state_dict().items()
        if value.is_floating_point()
    }


class _Bare(nn.Module):
    """Weights alone, for a digest of them under bare names."""

    def __init__(self, weights: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in weights.items():
            self.register_buffer(name.replace(".", "/"), value)
