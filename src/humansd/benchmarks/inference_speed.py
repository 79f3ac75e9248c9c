"""What an image costs with each way of conditioning: the same UNet, steps, guidance and precision, side by side."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor

from humansd.checkpoints.original_format import SD1
from humansd.core.markdown import markdown_table
from humansd.evaluation.timing import device_name, wait
from humansd.inference.pose_files import read_pose_files
from humansd.inference.pretrained import load_pipeline
from humansd.methods.protocol import Method, Networks
from humansd.methods.table import METHODS, find_method
from humansd.models.codec import decode_latents, vae_scale_factor
from humansd.models.estimators import usable_device
from humansd.models.widen import narrow_conv_in
from humansd.pose.examples import example_poses
from humansd.pose.people import People
from humansd.training.costs import method_costs

SCALES = ("pocket", "sd15")
TOKENS = 77


@dataclass(frozen=True)
class Seconds:
    """Medians over the turns. once: of what is encoded once for an image. step: of a step with two branches and all
    that the method runs in it. decode: of the image."""

    once: float
    step: float
    decode: float

    def image(self, steps: int) -> float:
        """Of an image of so many steps."""
        return self.once + steps * self.step + self.decode


def benchmark_inference(
    scale: str = "pocket",
    *,
    methods: Sequence[str] = (),
    steps: int = 50,
    turns: int = 7,
    device: str = "cpu",
    dtype: str = "fp32",
) -> str:
    """A table of seconds and FLOPs of an image for each method, as ratios to plain Stable Diffusion, and what the
    counted FLOPs would give. Steps are timed one by one, the methods in another order each turn, and an image is put
    together from the medians; the text, which is the same for all, is not counted.

    Args:
        scale: "pocket", or "sd15": the sizes of Stable Diffusion 1.5 at 512 px with random weights.
        methods: names of `METHODS`; none: all.
        turns: how often each is timed, after one to warm up.

    Raises:
        ValueError: an unknown scale, method, device or precision, or a count below 1.
    """
    if scale not in SCALES or steps < 1 or turns < 1:
        raise ValueError(f"scale {scale!r}, {steps} steps, {turns} turns: needs one of {SCALES}, 1 or more, 1 or more")
    kinds = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if dtype not in kinds:
        raise ValueError(f"dtype is {dtype!r}; choose one of {', '.join(kinds)}")
    named = {name: find_method(name) for name in dict.fromkeys(["sd", *(methods or METHODS)])}
    where = usable_device(device)
    unet, vae = _networks(scale)
    unet, vae = (_placed(network, where, kinds[dtype]) for network in (unet, vae))
    people = read_pose_files(example_poses() / "walking.json")[0].pose
    assert isinstance(people, People)
    seconds = _timed(named, unet, vae, people, turns, where)
    costs = method_costs(unet.config, vae.config, list(named))
    whole = seconds["sd"].image(steps)
    flops = {name: 2 * steps * costs[name]["step"] + costs[name]["once"] for name in named}
    rows = [
        [
            name,
            f"{1000 * one.once:.1f}",
            f"{1000 * one.step:.1f}",
            f"{one.image(steps):.3f}",
            f"{one.image(steps) / whole:.3f}",
            f"{flops[name] / flops['sd']:.3f}",
        ]
        for name, one in seconds.items()
    ]
    side = unet.config.sample_size * vae_scale_factor(vae)
    head = f"{scale}, {side} px, {steps} steps, two branches, batch 1, {dtype}, {device_name(where)}; {turns} turns"
    titles = ["method", "once, ms", "a step, ms", "an image, s", "against sd", "counted FLOPs against sd"]
    return f"{head}\n\n{markdown_table(titles, rows)}"


def _placed(network: Any, device: torch.device, dtype: torch.dtype) -> Any:
    return (network.to(device) if network.dtype == dtype else network.to(device, dtype)).eval()


def _networks(scale: str) -> tuple[UNet2DConditionModel, AutoencoderKL]:
    """A plain UNet and its VAE."""
    if scale == "pocket":
        pipeline = load_pipeline("pocket", "cpu", variant="full")
        plain = narrow_conv_in(pipeline.unet, pipeline.vae.config.latent_channels)
        return plain, pipeline.vae
    torch.manual_seed(0)
    return UNet2DConditionModel(in_channels=4, **SD1.unet), AutoencoderKL(**SD1.vae)


def _timed(
    methods: dict[str, Method],
    unet: UNet2DConditionModel,
    vae: AutoencoderKL,
    people: People,
    turns: int,
    device: torch.device,
) -> dict[str, Seconds]:
    """Each method's seconds, all on the same UNet and VAE."""
    works = {name: _works(method, unet, vae, people) for name, method in methods.items()}
    taken: dict[str, dict[str, list[float]]] = {name: {"once": [], "step": [], "decode": []} for name in works}
    order = random.Random(0)
    for turn in range(turns + 1):  # the first warms up
        for name in order.sample(list(works), len(works)):
            for part, work in works[name].items():
                wait(device)
                start = time.perf_counter()
                work()
                wait(device)
                if turn:
                    taken[name][part].append(time.perf_counter() - start)
    return {name: Seconds(**{part: statistics.median(one) for part, one in of.items()}) for name, of in taken.items()}


def _works(
    method: Method, unet: UNet2DConditionModel, vae: AutoencoderKL, people: People
) -> dict[str, Callable[[], object]]:
    """What a method does once for an image, in a step, and at the end."""
    networks = method.build(unet, vae)
    for network in (networks.unet, networks.pose_network):
        if network is not None:
            _placed(network, unet.device, unet.dtype)
    side = unet.config.sample_size
    size = (side * vae_scale_factor(vae),) * 2
    noisy = torch.randn(2, vae.config.latent_channels, side, side, device=unet.device, dtype=unet.dtype)
    width = unet.config.cross_attention_dim
    text = torch.randn(2, TOKENS, width, device=unet.device, dtype=unet.dtype)
    pose = tuple(torch.cat([one, one]) for one in _encoded(method, networks, people, size))

    @torch.no_grad()
    def step() -> Tensor:
        given = method.unet_inputs(networks, noisy, torch.tensor(500, device=unet.device), text, pose)
        return networks.unet(given.pop("sample"), given.pop("timestep"), **given, return_dict=False)[0]

    @torch.no_grad()
    def decode() -> Tensor:
        return decode_latents(vae, noisy[:1])

    return {"once": lambda: _encoded(method, networks, people, size), "step": step, "decode": decode}


@torch.no_grad()
def _encoded(method: Method, networks: Networks, people: People, size: tuple[int, int]) -> tuple[Tensor, ...]:
    told = method.condition([people], size, method.draw_style).to(networks.unet.device, networks.unet.dtype)
    return tuple(one.to(networks.unet.dtype) for one in method.encode(networks, told))
