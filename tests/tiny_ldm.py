"""Stable Diffusion 1 and 2 in miniature, for single-file checkpoints: as many blocks and layers, few channels."""

from __future__ import annotations

import dataclasses

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.models.ldm import SD1, SD2, Layout, Parts

SMALL = {"block_out_channels": (8, 8, 16, 16), "norm_num_groups": 4}
TINY1 = dataclasses.replace(
    SD1,
    unet={**SD1.unet, **SMALL, "cross_attention_dim": 12, "attention_head_dim": 2, "sample_size": 8},
    vae={**SD1.vae, **SMALL, "sample_size": 64},
    text={"hidden_size": 12, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
)
TINY2 = dataclasses.replace(
    SD2,
    unet={**SD2.unet, **SMALL, "cross_attention_dim": 16, "attention_head_dim": 2, "sample_size": 8},
    vae={**SD2.vae, **SMALL, "sample_size": 64},
    text={"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
)
TINY = (TINY1, TINY2)


def tiny_parts(layout: Layout, in_channels: int = 4) -> Parts:
    torch.manual_seed(0)
    text = CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **layout.text)
    unet = UNet2DConditionModel(in_channels=in_channels, **layout.unet)
    return Parts(unet.eval(), AutoencoderKL(**layout.vae).eval(), CLIPTextModel(text).eval())
