"""A whole HumanSD model in miniature, real classes and random weights: 16 px images, 3 x 8 x 8 latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from humansd.models.pocket import (
    pocket_clip,
    pocket_scheduler,
    pocket_unet,
    pocket_vae,
    text_model,
    train_tokenizer,
)
from humansd.models.widen import widen_conv_in
from humansd.pose import People

CAPTIONS = ["a man running in a park", "two women dancing at night, oil painting"] * 5
CHANNELS, FACTOR, SIZE = 3, 2, 16


def tiny_vae() -> Any:
    return pocket_vae(
        latent_channels=CHANNELS,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        sample_size=SIZE,
        scaling_factor=0.7,
        shift_factor=0.1,
    )


def tiny_unet(in_channels: int = CHANNELS) -> Any:
    return pocket_unet(
        in_channels,
        sample_size=SIZE // FACTOR,
        out_channels=CHANNELS,
        block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def tiny_clip(vocab_size: int) -> Any:
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    return pocket_clip(
        vocab_size,
        text={**small, "max_position_embeddings": 12, "projection_dim": 8},
        vision={**small, "image_size": 16, "patch_size": 8, "projection_dim": 8},
    )


def tiny_components(*, widened: bool = True, trained: bool = True) -> dict[str, Any]:
    """Components of a pipeline; `trained` gives the new input weights values, so that the pose matters."""
    torch.manual_seed(0)
    tokenizer = train_tokenizer(CAPTIONS, 560, max_length=12)
    unet = tiny_unet()
    if widened:
        unet = widen_conv_in(unet, CHANNELS)
        if trained:
            with torch.no_grad():
                unet.conv_in.weight[:, CHANNELS:].normal_(std=0.3)
    parts = {
        "vae": tiny_vae().eval(),
        "text_encoder": text_model(tiny_clip(len(tokenizer))).eval(),
        "tokenizer": tokenizer,
        "unet": unet.eval(),
        "scheduler": pocket_scheduler(),
    }
    return parts


def standing(canvas: tuple[int, int] = (SIZE, SIZE), shift: float = 0.0) -> People:
    """One person who fills the canvas, `shift` px to the right."""
    x = [8, 9, 7, 10, 6, 11, 5, 13, 3, 14, 2, 10, 6, 10, 6, 10, 6]
    y = [2, 1, 1, 2, 2, 4, 4, 6, 6, 8, 8, 9, 9, 12, 12, 15, 15]
    xy = np.array([np.stack([x, y], axis=1)], dtype=float)
    xy = xy * (np.array(canvas) / SIZE) + np.array([shift, 0.0])
    return People.of(xy, canvas)
