"""What memory a run will take, estimated from shapes alone: nothing is allocated, loaded or downloaded."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.checkpoints.original_format import ModelFamily
from humansd.data.latents import images_at_once
from humansd.methods.table import find_method
from humansd.models import centernet_pose, higherhrnet, pocket
from humansd.models.codec import encode_images, vae_scale_factor
from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.models.precision import fast_bf16
from humansd.training.bases import CLIP_VOCABULARY, base_name, part_config
from humansd.training.counting import Shapes, activation_bytes, frozen_bytes
from humansd.training.diffusion import frozen_but
from humansd.training.dual_costs import dual_shapes
from humansd.training.dual_settings import DualAdapterSettings
from humansd.training.heatmap_weighting import (
    HeatmapWeighter,
    LatentHeatmapWeighter,
    LossWeighter,
    ReferenceWeighter,
    Teacher,
)
from humansd.training.settings import (
    AutoencoderSettings,
    ClipSettings,
    DiffusionSettings,
    EstimatorSettings,
    HeadSettings,
    LoopSettings,
    PocketRecipe,
)
from humansd.training.teachers import needs_teacher, shown_px, teacher_of

PROGRAM_GB = (
    0.6  # Python, PyTorch and what they load in a process that trains on a CPU (measured 0.5), and small change
)


def estimate_memory(settings: LoopSettings | PocketRecipe) -> dict[str, Any]:
    """The memory of a run in one process, GB, by what takes it, and what the estimate takes for granted; of a recipe,
    by stage.

    The peak is lower where gradients take the place of activations that the backward pass is done with, and higher
    where the allocator does not give back at once what was freed.

    Raises:
        ValueError: a batch that is no multiple of its parts, or networks that do not fit each other.
    """
    if isinstance(settings, PocketRecipe):
        stages = {field.name: getattr(settings, field.name) for field in dataclasses.fields(settings)}
        return {name: estimate_memory(one) for name, one in stages.items() if isinstance(one, LoopSettings)}
    device, half = arithmetic(settings)
    shapes, samples = _shapes(settings), settings.share(1)
    try:
        plain, saving = (activation_bytes(shapes, samples, device, half, checkpointing=one) for one in (False, True))
    except RuntimeError as error:
        raise ValueError(
            f"{shapes.name}: its networks do not fit each other ({str(error).splitlines()[0]}); name a base and parts "
            "of one family, --set base=FOLDER --set parts=FOLDER"
        ) from error
    count = sum(p.numel() for p in shapes.learns.parameters())
    sizes = weight_bytes(count, ema=settings.ema_decay > 0)
    frozen = {name: 4 * sum(p.numel() for p in one.parameters()) for name, one in shapes.frozen.items()}
    sizes["frozen"] = sum(frozen.values())
    guiding = 0 if shapes.guiding is None else frozen_bytes(lambda: shapes.guiding(samples), device, half)  # type: ignore[misc]
    sums = {}
    for name, one in {"off": plain, "on": saving}.items():
        # What guides the loss is computed while the activations are kept, and is gone before the backward pass.
        working = {"backward": one["working"], **({"the loss's guide": guiding} if guiding else {})}
        sums[name] = {"activations": one["activations"], "working": max(working.values())}, working
    used, working = sums["on" if getattr(settings, "gradient_checkpointing", False) else "off"]
    sizes |= used
    numbers = {name: size / 1e9 for name, size in sizes.items()} | ({"program": PROGRAM_GB} if device == "cpu" else {})
    result: dict[str, Any] = {
        "network": f"{shapes.name}, {count / 1e6:.1f} M parameters learn",
        "gb": _rounded(numbers | {"total": sum(numbers.values())}, 1),
    }
    if frozen:
        result["frozen_gb"] = _rounded(frozen)
    if guiding:
        result["working_gb"] = _rounded(working)
    if shapes.unet is not None:
        both = {f"gradient_checkpointing {name}": sum(one.values()) for name, (one, _) in sums.items()}
        result["activations_and_working_gb"] = _rounded(both)
    if shapes.caching is not None:
        first = sizes["weights"] + sizes["frozen"] + frozen_bytes(shapes.caching, device, half)
        result["before_the_first_step_gb"] = _rounded({"weights, frozen, encoding the images": first})
    return result | {"assumes": _assumptions(device, half, samples)}


def _rounded(sizes: dict[str, float] | dict[str, int], unit: float = 1e9) -> dict[str, float]:
    return {name: round(size / unit, 3) for name, size in sizes.items()}


def weight_bytes(parameters: int, *, ema: bool) -> dict[str, int]:
    """What so many learning parameters take in fp32, by what they are kept for; AdamW keeps two moments."""
    each = {"weights": 4, "gradients": 4, "AdamW": 8, "averages": 4 if ema else 0}
    return {name: parameters * size for name, size in each.items()}


def layout_shapes(layout: ModelFamily, side_px: int) -> Shapes:
    """HumanSD of a family of Stable Diffusion, at images of `side_px`."""
    text = {"vocab_size": CLIP_VOCABULARY, "max_position_embeddings": 77, **layout.text}
    return _humansd(layout.name, layout.unet, layout.vae, text, DiffusionSettings(method="humansd"), side_px=side_px)


def arithmetic(settings: LoopSettings) -> tuple[str, bool]:
    """The kind of device that a run will use, and whether it multiplies in 16 bits there.

    A dry run may ask for a GPU that is elsewhere; such a one is taken to be fast at bf16.
    """
    here = torch.cuda.is_available()
    device = settings.device if settings.device != "auto" else ("cuda" if here else "cpu")
    if settings.mixed_precision != "auto":
        return device, settings.mixed_precision != "no"
    return device, fast_bf16(device) if device == "cpu" or here else True


def _assumptions(device: str, half: bool, samples: int) -> list[str]:
    numbers = "16 bits where autocast computes in them, beside a copy of the weights in them" if half else "fp32"
    driver = ", the driver's own (about 0.5 GB)" if device == "cuda" else ""
    return [
        f"{device}, one process, {samples} samples at a time; {numbers}",
        f"not counted: the data, previews, evaluation, compiled code, work space of single operations{driver}",
    ]


def _shapes(settings: LoopSettings) -> Shapes:
    with torch.device("meta"):
        if isinstance(settings, HeadSettings):
            return _head(settings)
        if isinstance(settings, DualAdapterSettings):
            return dual_shapes(settings)
        if isinstance(settings, DiffusionSettings):
            return _diffusion(settings)
        if isinstance(settings, AutoencoderSettings):
            return _autoencoder(settings)
        if isinstance(settings, ClipSettings):
            return _clip(settings)
        assert isinstance(settings, EstimatorSettings)
        return _estimator(settings)


def _diffusion(settings: DiffusionSettings) -> Shapes:
    base, parts = settings.base, settings.parts or settings.base
    configs = (part_config(base, "unet"), part_config(parts, "vae"), part_config(parts, "text_encoder"))
    return _humansd(base_name(base), *configs, settings)


def _humansd(
    name: str,
    unet_config: dict[str, Any],
    vae_config: dict[str, Any],
    text_config: dict[str, Any],
    settings: DiffusionSettings,
    *,
    side_px: int = 0,
) -> Shapes:
    """side_px: of the images; 0: those that the UNet was made for."""
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(vae_config).requires_grad_(False)
        text_encoder = CLIPTextModel(CLIPTextConfig(**text_config))
        channels = vae.config.latent_channels
        plain = UNet2DConditionModel.from_config({"in_channels": channels, **unet_config})
        method = find_method(settings.method)
        networks = method.build(plain, vae)
        unet = networks.unet
    height, width = _latent_size(unet, side_px // vae_scale_factor(vae))
    config = text_encoder.config
    pixels = height * vae_scale_factor(vae), width * vae_scale_factor(vae)
    teacher = _teacher(settings, vae, pixels[0])
    guide = _guide(settings, teacher, channels)

    def forward(samples: int) -> Any:
        with torch.device("meta"):
            noisy, steps = torch.empty(samples, channels, height, width), torch.zeros(samples, dtype=torch.long)
            ids = torch.zeros(samples, config.max_position_embeddings, dtype=torch.long)
            text = text_encoder(ids)[0] if settings.train_text else torch.empty(*ids.shape, config.hidden_size)
            pose: tuple[torch.Tensor, ...] = (noisy,)
            if not method.latent_drawing:
                told = method.condition([None] * samples, (pixels[1], pixels[0]), method.draw_style).to("meta")
                pose = method.encode(networks, told)
        return unet(**method.unet_inputs(networks, noisy, steps, text, pose)).sample

    def guiding(samples: int) -> Any:
        assert guide is not None
        return guide.weight(torch.empty(samples, channels, height, width, device="meta"), range(samples))

    def caching() -> Any:
        return encode_images(vae, torch.empty(images_at_once(pixels[0]), 3, *pixels, device="meta"))

    learns = frozen_but(networks, method.learns(networks))
    frozen: dict[str, nn.Module] = {"vae": vae}
    if learns is not unet:
        frozen["unet"] = unet
    if settings.train_text:
        learns = nn.ModuleDict({"unet": learns, "text_encoder": text_encoder})
    if not settings.train_text:
        frozen["text_encoder"] = text_encoder
    if teacher is not None:
        frozen[f"teacher {settings.estimator}"] = teacher.network
    elif isinstance(guide, LatentHeatmapWeighter):
        frozen["head"] = guide.head
    return Shapes(name, learns, frozen, forward, unet, guiding if guide is not None else None, caching)


def _latent_size(unet: UNet2DConditionModel, side: int = 0) -> tuple[int, int]:
    """Height and width; of a square one, or what the UNet was made for."""
    size = side or unet.config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _teacher(settings: DiffusionSettings, vae: AutoencoderKL, image_px: int) -> Teacher | None:
    """The estimator that the settings need, with the sizes of the one that they name."""
    if not needs_teacher(settings):
        return None
    found = teacher_of(settings)
    with torch.device("meta"):
        return Teacher(higherhrnet.HigherHRNet(found.config), vae, shown_px(settings, found, image_px))


def _guide(settings: DiffusionSettings, teacher: Teacher | None, channels: int) -> LossWeighter | None:
    if settings.loss == "latent-heatmap":
        with torch.device("meta"):
            return LatentHeatmapWeighter(settings, LatentHeatmapHead(LatentHeatmapConfig(channels=channels)))
    if teacher is None:
        return None
    return ReferenceWeighter(teacher) if settings.loss == "reference" else HeatmapWeighter(settings, teacher)


def _head(settings: HeadSettings) -> Shapes:
    inner = _diffusion(settings)
    assert inner.unet is not None
    channels, size = inner.unet.config.out_channels, _latent_size(inner.unet)
    head = LatentHeatmapHead(LatentHeatmapConfig(channels=channels))
    name = f"the heatmap head of {inner.name}"

    def forward(samples: int) -> Any:
        return head(torch.empty(samples, channels, *size, device="meta"))

    def guiding(samples: int) -> Any:
        assert inner.guiding is not None
        inner.forward(samples)
        return inner.guiding(samples)

    frozen = {**inner.frozen, "unet": inner.unet.requires_grad_(False)}
    return Shapes(name, head, frozen, forward, guiding=guiding, caching=inner.caching)


def _autoencoder(settings: AutoencoderSettings) -> Shapes:
    own = Path(settings.init) / "config.json"
    config = json.loads(own.read_text()) if settings.init and own.exists() else part_config("", "vae")
    vae = AutoencoderKL.from_config(config)
    side = settings.crop
    return Shapes(
        settings.init or "pocket size", vae, {}, lambda n: vae(torch.empty(n, 3, side, side, device="meta")).sample
    )


def _clip(settings: ClipSettings) -> Shapes:
    clip = pocket.pocket_clip(settings.vocabulary)
    clip.set_attn_implementation("eager")

    def forward(samples: int) -> Any:
        ids = torch.zeros(samples, pocket.MAX_TOKENS, dtype=torch.long, device="meta")
        images = torch.empty(samples, 3, pocket.SEEN_SIZE, pocket.SEEN_SIZE, device="meta")
        return clip(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=images).logits_per_text

    return Shapes("pocket size", clip, {}, forward)


def _estimator(settings: EstimatorSettings) -> Shapes:
    network: Any
    if settings.kind == "higherhrnet":
        network = higherhrnet.HigherHRNet(higherhrnet.CONFIGS["pocket"])
    else:
        network = centernet_pose.CenterNetPose(centernet_pose.CENTERNET)
    side = network.config.input_px
    return Shapes("pocket size", network, {}, lambda n: network(torch.empty(n, 3, side, side, device="meta")))
