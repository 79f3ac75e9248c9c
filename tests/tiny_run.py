"""The folder of a finished pocket run without the training: networks of its classes, smaller and with random weights.

Images are 128 px, latents 8 x 16 x 16 and texts 77 x 192, as those of the tiny preset; so whoever reads such a folder
cannot tell the difference, but by the sizes in the configs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from humansd.data.image_cache import build_image_cache, find_image_cache
from humansd.models.higherhrnet import CONFIGS, HigherHRNet
from humansd.models.pocket import (
    pocket_clip,
    pocket_scheduler,
    pocket_unet,
    pocket_vae,
    text_model,
    train_tokenizer,
)
from humansd.pipelines.plain import plain_pipeline
from humansd.synthetic.dataset import write_atelier
from humansd.training.presets import TINY
from humansd.training.settings import DiffusionSettings
from humansd.training.tasks.diffusion import DiffusionTask
from humansd.training.tasks.distillation import DistillationTask
from humansd.training.tasks.few_steps import FewStepTask
from humansd.training.tasks.tiny_decoder import TinyDecoderTask

IMAGES = 4
UNET = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
VAE = {"block_out_channels": (16, 16, 32, 32), "scaling_factor": 0.8, "shift_factor": 0.1}


def make_tiny_run(folder: Path) -> None:
    """`shards`, `pack`, `parts`, `base/export`, `humansd/export`, `estimators/higherhrnet`: where a recipe has them."""
    torch.manual_seed(0)
    write_atelier(folder / "shards", IMAGES, size=TINY.size, seed=TINY.seed, workers=1, progress=False)
    build_image_cache(folder / "shards", folder / "pack", 1)
    captions = [wording for wordings in find_image_cache(folder / "pack").captions for wording in wordings]
    words = train_tokenizer(captions, TINY.clip.vocabulary)
    clip = pocket_clip(len(words), text={"num_hidden_layers": 1}, vision={"num_hidden_layers": 1})
    text = text_model(clip)
    parts = plain_pipeline(pocket_vae(**VAE), text.eval(), words, pocket_unet(**UNET), pocket_scheduler())
    parts.save_pretrained(folder / "parts")
    clip.save_pretrained(folder / "parts" / "clip")
    places = {"data": str(folder / "pack"), "base_model": str(folder / "parts")}
    for name, method in (("base", "sd"), ("humansd", "humansd")):
        DiffusionTask(DiffusionSettings(**places, method=method)).export(folder / name / "export")
    network = HigherHRNet(replace(CONFIGS["pocket"], width=8, stem=16, blocks=1))
    torch.nn.init.normal_(network.final_layers[1].weight, std=0.05)  # sees something
    network.save_pretrained(folder / "estimators" / "higherhrnet")


def make_variants(run: Path, folder: Path) -> None:
    """`one_branch/export`, `four_steps/export` and `tiny_decoder/export` of the HumanSD in `run`, where a recipe has
    them; nothing is learnt."""
    places = {"data": str(run / "pack"), "base_model": str(run / "humansd" / "export")}
    lora = str(folder / "one_branch" / "export")
    DistillationTask(replace(TINY.one_branch, **places)).export(Path(lora))
    FewStepTask(replace(TINY.four_steps, **places, teacher_lora=lora)).export(folder / "four_steps" / "export")
    decoder = replace(TINY.tiny_decoder, data=places["data"], init=str(run / "parts" / "vae"))
    TinyDecoderTask(decoder).export(folder / "tiny_decoder" / "export")
