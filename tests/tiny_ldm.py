"""Stable Diffusion 1 and 2 in miniature, for single-file checkpoints: as many blocks and layers, few channels."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.checkpoints.original_format import SD1, SD2, ModelFamily, Parts, state_of

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
    text={**SD2.text, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2},
)
TINY = (TINY1, TINY2)


def tiny_components(layout: ModelFamily, in_channels: int = 4) -> Parts:
    torch.manual_seed(0)
    text = CLIPTextConfig(vocab_size=49408, max_position_embeddings=77, **layout.text)
    unet = UNet2DConditionModel(in_channels=in_channels, **layout.unet)
    return Parts(unet.eval(), AutoencoderKL(**layout.vae).eval(), CLIPTextModel(text).eval())


def tiny_state(layout: ModelFamily, in_channels: int = 4) -> dict[str, torch.Tensor]:
    """The weights of `tiny_parts` under their original names."""
    return dict(_tiny_state(TINY.index(layout), in_channels))


@functools.cache
def _tiny_state(number: int, in_channels: int) -> dict[str, torch.Tensor]:
    state = state_of(tiny_components(TINY[number], in_channels), TINY[number])
    return {key: weight.contiguous() for key, weight in state.items()}


@contextlib.contextmanager
def lightning_class() -> Iterator[type]:
    """Lightning's class for callbacks under its own name, for writing a file; afterwards nobody knows it."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    modules = {part: types.ModuleType(part) for part in ("pytorch_lightning", "pytorch_lightning.callbacks", name)}

    class ModelCheckpoint:
        def __init__(self) -> None:
            self.best = 1.0

        def __setstate__(self, state: object) -> None:
            raise AssertionError("an object of the file was given its state")

    ModelCheckpoint.__module__, ModelCheckpoint.__qualname__ = name, "ModelCheckpoint"
    setattr(modules[name], "ModelCheckpoint", ModelCheckpoint)  # noqa: B010
    sys.modules.update(modules)
    try:
        yield ModelCheckpoint
    finally:
        for part in modules:
            sys.modules.pop(part, None)


def published_state(state: dict[str, torch.Tensor], layout: ModelFamily) -> dict[str, torch.Tensor]:
    """The weights under their original names, with what else lies in a published file."""
    state = state | {"betas": torch.zeros(1000), "logvar": torch.zeros(1000)}
    if not layout.open_clip:
        return state | {"cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None]}
    at, width = "cond_stage_model.model.", layout.text["hidden_size"]
    last = {
        key.replace(".resblocks.0.", ".resblocks.23."): weight + 1
        for key, weight in state.items()
        if key.startswith(at + "transformer.resblocks.0.")
    }
    more = {"attn_mask": torch.zeros(77, 77), "logit_scale": torch.ones(()), "text_projection": torch.eye(width)}
    return state | last | {at + key: value for key, value in more.items()}


def save_lightning(state: dict[str, torch.Tensor], file: Path) -> None:
    """A checkpoint as PyTorch Lightning 1.4.2 leaves it."""
    with lightning_class() as callback:
        content = {
            "epoch": 3,
            "global_step": 95000,
            "pytorch-lightning_version": "1.4.2",
            "state_dict": state,
            "callbacks": {callback: {"monitor": None, "best_model_score": torch.tensor(1.0), "self": callback()}},
            "optimizer_states": [{"state": {0: {"step": 1, "exp_avg": torch.zeros(3)}}, "param_groups": []}],
            "lr_schedulers": [],
        }
        torch.save(content, file)
