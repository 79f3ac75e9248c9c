"""Self-attention shared by the images of a call: all read keys and values of the first. Nothing is trained.

Cao et al. 2023, "MasaCtrl: Tuning-Free Mutual Self-Attention Control", sec. 3.1: what the first image shows is what the
others are made of, arranged as their own layout asks. As there, in the decoder alone, and not in the first steps, which
decide the layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from torch import Tensor

from humansd.pipelines.running import lock_of

LAYERS = ("up_blocks",)  # beginnings of the names of the layers that share
START = 0.1  # share of the steps before it begins; MasaCtrl: 4 of 50


class SharedAttention:
    """diffusers' attention processor; off until `active` is set.

    images: n of a call. Its batch is the call's branches one after the other, of n images each.
    """

    def __init__(self, images: int) -> None:
        self.images, self.active = images, False
        self._plain = AttnProcessor2_0()

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        *rest: Any,
        **more: Any,
    ) -> Tensor:
        """hidden_states: (branches n, tokens, width)."""
        if self.active and encoder_hidden_states is None:
            branches = hidden_states.reshape(-1, self.images, *hidden_states.shape[1:])
            encoder_hidden_states = branches[:, :1].expand_as(branches).reshape(hidden_states.shape)
        out: Tensor = self._plain(attn, hidden_states, encoder_hidden_states, *rest, **more)
        return out


@contextmanager
def shared_attention(unet: UNet2DConditionModel, images: int) -> Iterator[SharedAttention]:
    """Inside, the self-attention of the decoder is that of a `SharedAttention`, which is handed out.

    Others that change this UNet while they run (another series, LoRAs, CPU offload) wait; plain calls do not, and must
    not draw with it meanwhile.
    """
    with lock_of(unet):
        before = dict(unet.attn_processors)
        shared = SharedAttention(images)
        own = {name for name in before if name.startswith(LAYERS) and ".attn1." in name}
        unet.set_attn_processor({name: shared if name in own else one for name, one in before.items()})
        try:
            yield shared
        finally:
            unet.set_attn_processor(before)


def begin_at(shared: SharedAttention, steps: int, start: float = START) -> Any:
    """The callback on a step's end that switches `shared` on for the steps from the share `start` on."""
    first = round(start * steps)
    shared.active = first == 0

    def callback(pipeline: Any, step: int, timestep: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        shared.active = step + 1 >= first
        return {}

    return callback
