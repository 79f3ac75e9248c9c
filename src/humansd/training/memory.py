"""What memory a run will take, estimated from shapes alone: nothing is allocated, loaded or downloaded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from transformers import CLIPTextConfig, CLIPTextModel

from humansd.models import centrepose, higherhrnet, pocket
from humansd.models.codec import vae_factor
from humansd.models.latent_heatmap import LatentHeatmapConfig, LatentHeatmapHead
from humansd.models.ldm import SD1, Layout
from humansd.models.precision import fast_bf16, use_fast_attention
from humansd.training.guidance import GUIDED
from humansd.training.presets import SD15
from humansd.training.settings import (
    AutoencoderSettings,
    DiffusionSettings,
    EstimatorSettings,
    HeadSettings,
    LoopSettings,
    PocketRecipe,
    TowersSettings,
)

PROGRAM_GB = (
    0.6  # Python, PyTorch and what they load in a process that trains on a CPU (measured 0.5), and small change
)
CLIP_VOCABULARY = 49408


@dataclass(frozen=True)
class Shapes:
    """A run's networks on the meta device.

    name: what they are. learns: the module that is trained. frozen: the others that are in memory. forward: what is
    computed with gradients of so many samples. unet: the one in `learns`, if there is one.
    """

    name: str
    learns: nn.Module
    frozen: tuple[nn.Module, ...]
    forward: Callable[[int], Any]
    unet: UNet2DConditionModel | None = None


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
    parts = weight_bytes(count, averages=settings.ema_decay > 0)
    parts["frozen"] = 4 * sum(p.numel() for one in shapes.frozen for p in one.parameters())
    parts |= saving if getattr(settings, "gradient_checkpointing", False) else plain
    numbers = {name: size / 1e9 for name, size in parts.items()} | ({"program": PROGRAM_GB} if device == "cpu" else {})
    result: dict[str, Any] = {
        "network": f"{shapes.name}, {count / 1e6:.1f} M parameters learn",
        "gb": {name: round(number, 3) for name, number in (numbers | {"total": sum(numbers.values())}).items()},
    }
    if shapes.unet is not None:
        sums = {"off": plain, "on": saving}
        result["activations_and_working_gb"] = {
            f"gradient_checkpointing {name}": round(sum(one.values()) / 1e9, 3) for name, one in sums.items()
        }
    return result | {"assumes": _assumptions(device, half, samples)}


def weight_bytes(parameters: int, *, averages: bool) -> dict[str, int]:
    """What so many learning parameters take in fp32, by what they are kept for; AdamW keeps two moments."""
    each = {"weights": 4, "gradients": 4, "AdamW": 8, "averages": 4 if averages else 0}
    return {name: parameters * size for name, size in each.items()}


def layout_shapes(layout: Layout, side_px: int) -> Shapes:
    """HumanSD of a family of Stable Diffusion, at pictures of `side_px`."""
    return _humansd(layout.name, layout.unet, layout.vae, _text(layout.text, CLIP_VOCABULARY), side_px=side_px)


def arithmetic(settings: LoopSettings) -> tuple[str, bool]:
    """The kind of device that a run will use, and whether it multiplies in 16 bits there.

    A dry run may ask for a GPU that is elsewhere; such a one is taken to be fast at bf16.
    """
    here = torch.cuda.is_available()
    device = settings.device if settings.device != "auto" else ("cuda" if here else "cpu")
    if settings.mixed_precision != "auto":
        return device, settings.mixed_precision != "no"
    return device, fast_bf16(device) if device == "cpu" or here else True


def activation_bytes(shapes: Shapes, samples: int, device: str, half: bool, *, checkpointing: bool) -> dict[str, int]:
    """What one forward pass keeps for the backward pass, with 16-bit copies of the weights where `half`; and what the
    backward pass works with: of the largest of these tensors the gradient, and that of what it was made from.

    checkpointing: of the UNet; then the block that is largest when it is computed again counts too.
    """
    known = {_key(weight) for weight in shapes.learns.parameters()}
    kept, largest = _Kept(known), _Kept(known)

    def block(module: Callable[..., Any], *args: Any) -> Any:
        nonlocal largest
        for one in args:
            if isinstance(one, Tensor):
                kept.keep(one)
        inner = _Kept(known)
        with inner.hooks():
            out = module(*args)
        largest = max(largest, inner, key=_Kept.bytes)
        return out

    shapes.learns.train()
    unet = shapes.unet
    if unet is not None:
        use_fast_attention(unet, device)
        unet.disable_gradient_checkpointing()
        if checkpointing:
            unet.enable_gradient_checkpointing(block)
    with kept.hooks(), _FusedAttention() if device == "cuda" else nullcontext():
        result = shapes.forward(samples)
    del result
    sizes = {"activations": kept.bytes() + largest.bytes(), "working": 2 * max(kept.largest(), largest.largest())}
    if half:
        sizes = {name: size // 2 for name, size in sizes.items()}
        sizes["activations"] += sum(2 * p.numel() for p in shapes.learns.parameters())
    return sizes


class _Kept:
    """The tensors that autograd keeps, each once, without the weights."""

    def __init__(self, known: set[int]) -> None:
        self._known = known
        self._storages: dict[int, torch.UntypedStorage] = {}  # held, so that no other takes its number

    def keep(self, tensor: Tensor) -> Tensor:
        if _key(tensor) not in self._known:
            self._storages[_key(tensor)] = tensor.untyped_storage()
        return tensor

    def hooks(self) -> AbstractContextManager[Any]:
        return saved_tensors_hooks(self.keep, lambda tensor: tensor)

    def bytes(self) -> int:
        return sum(storage.nbytes() for storage in self._storages.values())

    def largest(self) -> int:
        return max((storage.nbytes() for storage in self._storages.values()), default=0)


def _key(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)  # a tensor of the meta device has no address


class _FusedAttention(TorchFunctionMode):
    """On the meta device attention is written out; a GPU's keeps its inputs and outputs and no scores."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(*args[:3])[0]
        return func(*args, **(kwargs or {}))


def _assumptions(device: str, half: bool, samples: int) -> list[str]:
    numbers = "activations take half as much in 16 bits, beside a copy of the weights in them" if half else "fp32"
    return [
        f"{device}, one process, {samples} samples at a time; {numbers}",
        "not counted: the data, previews, evaluation, compiled code, what frozen networks compute",
    ]


def _shapes(settings: LoopSettings) -> Shapes:
    with torch.device("meta"):
        if isinstance(settings, HeadSettings):
            return _head(settings)
        if isinstance(settings, DiffusionSettings):
            return _diffusion(settings)
        if isinstance(settings, AutoencoderSettings):
            return _autoencoder(settings)
        if isinstance(settings, TowersSettings):
            return _towers(settings)
        assert isinstance(settings, EstimatorSettings)
        return _estimator(settings)


def _diffusion(settings: DiffusionSettings) -> Shapes:
    base, parts = settings.base, settings.parts or settings.base
    vocabulary = TowersSettings().vocabulary
    words = {"vocab_size": vocabulary, "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1}
    return _humansd(
        _name(base),
        _config(base, "unet", SD1.unet, pocket.UNET),
        _config(parts, "vae", SD1.vae, pocket.VAE),
        _config(parts, "text_encoder", _text(SD1.text, CLIP_VOCABULARY), {**pocket.CLIP_TEXT, **words}),
        pose=settings.pose == "concat",
        train_text=settings.train_text,
        guide=settings.loss if settings.loss in GUIDED else "",
    )


def _humansd(
    name: str,
    unet_config: dict[str, Any],
    vae_config: dict[str, Any],
    text_config: dict[str, Any],
    *,
    pose: bool = True,
    train_text: bool = False,
    guide: str = "",
    side_px: int = 0,
) -> Shapes:
    """side_px: of the pictures; 0: those that the UNet was made for."""
    with torch.device("meta"):
        vae = AutoencoderKL.from_config(vae_config)
        text_encoder = CLIPTextModel(CLIPTextConfig(**text_config))
        channels = vae.config.latent_channels
        inputs = unet_config.get("in_channels", channels)
        inputs += channels if pose and inputs == channels else 0
        unet = UNet2DConditionModel.from_config({**unet_config, "in_channels": inputs})
    height, width = _latent_size(unet, side_px // vae_factor(vae))
    config = text_encoder.config

    def forward(samples: int) -> Any:
        with torch.device("meta"):
            latents, steps = torch.empty(samples, inputs, height, width), torch.zeros(samples, dtype=torch.long)
            ids = torch.zeros(samples, config.max_position_embeddings, dtype=torch.long)
            text = text_encoder(ids)[0] if train_text else torch.empty(*ids.shape, config.hidden_size)
            return unet(latents, steps, text).sample

    learns = nn.ModuleDict({"unet": unet, "text_encoder": text_encoder}) if train_text else unet
    frozen = (vae, *(() if train_text else (text_encoder,)), *_guide(guide, channels))
    return Shapes(name, learns, frozen, forward, unet)


def _latent_size(unet: UNet2DConditionModel, side: int = 0) -> tuple[int, int]:
    """Height and width; of a square one, or what the UNet was made for."""
    size = side or unet.config.sample_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _guide(loss: str, channels: int) -> tuple[nn.Module, ...]:
    with torch.device("meta"):
        if loss == "latent-heatmap":
            return (LatentHeatmapHead(LatentHeatmapConfig(channels=channels)),)
        return (higherhrnet.HigherHRNet(higherhrnet.CONFIGS["pocket"]),) if loss else ()


def _head(settings: HeadSettings) -> Shapes:
    inner = _diffusion(settings)
    assert inner.unet is not None
    channels, size = inner.unet.config.out_channels, _latent_size(inner.unet)
    head = LatentHeatmapHead(LatentHeatmapConfig(channels=channels))
    frozen = (*inner.frozen, inner.unet, *_guide("heatmap", channels))
    name = f"the heatmap head of {inner.name}"
    return Shapes(name, head, frozen, lambda n: head(torch.empty(n, channels, *size, device="meta")))


def _autoencoder(settings: AutoencoderSettings) -> Shapes:
    vae = AutoencoderKL.from_config(_config(settings.init, "", SD1.vae, pocket.VAE))
    side = settings.crop
    return Shapes(_name(settings.init), vae, (), lambda n: vae(torch.empty(n, 3, side, side, device="meta")).sample)


def _towers(settings: TowersSettings) -> Shapes:
    clip = pocket.pocket_clip(settings.vocabulary)
    clip.set_attn_implementation("eager")

    def forward(samples: int) -> Any:
        ids = torch.zeros(samples, pocket.MAX_TOKENS, dtype=torch.long, device="meta")
        pictures = torch.empty(samples, 3, pocket.PICTURE_SIZE, pocket.PICTURE_SIZE, device="meta")
        return clip(input_ids=ids, attention_mask=torch.ones_like(ids), pixel_values=pictures).logits_per_text

    return Shapes("pocket size", clip, (), forward)


def _estimator(settings: EstimatorSettings) -> Shapes:
    network: Any
    if settings.kind == "higherhrnet":
        network = higherhrnet.HigherHRNet(higherhrnet.CONFIGS["pocket"])
    else:
        network = centrepose.CentrePose(centrepose.JUDGE)
    side = network.config.input_px
    return Shapes("pocket size", network, (), lambda n: network(torch.empty(n, 3, side, side, device="meta")))


def _text(sizes: dict[str, Any], vocabulary: int) -> dict[str, Any]:
    return {"vocab_size": vocabulary, "max_position_embeddings": 77, **sizes}


def _name(source: str) -> str:
    if source and Path(source).is_dir():
        return source
    return (
        SD1.name if source == SD15 else "pocket size" + (f" (sizes of {source} are not known here)" if source else "")
    )


def _config(source: str, part: str, published: dict[str, Any], small: dict[str, Any]) -> dict[str, Any]:
    """Of the folder `source`, if it is one; the published one of Stable Diffusion 1.5; else the pocket model's."""
    path = Path(source) / part / "config.json"
    if source and path.exists():
        return json.loads(path.read_text())
    return published if source == SD15 else small
