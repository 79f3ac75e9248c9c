"""What an image costs: HumanSD beside plain Stable Diffusion, and the pipeline beside the modules it runs."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from humansd.core.markdown import markdown_table
from humansd.evaluation.timing import device_name, wait
from humansd.inference.pose_files import read_pose_files
from humansd.inference.pretrained import load_pipeline
from humansd.models.codec import decode_latents, encode_images, token_ids
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.pipelines.plain import without_pose
from humansd.pose.examples import example_poses
from humansd.pose.people import People

PROMPT = "photo, a woman in a red dress walking on a beach"
SCALE = 5.0
DRAWS = 2000


@dataclass(frozen=True)
class PipelineCosts:
    """Ratios over alternating pairs, each (median, low, high) with a 95 % interval of the median.

    over_plain: HumanSD with two branches / (diffusers' Stable Diffusion + one skeleton encoded). over_modules: the same
    / the modules alone, on inputs that are there already. seconds: medians of what was timed.
    """

    over_plain: tuple[float, float, float]
    over_modules: tuple[float, float, float]
    seconds: dict[str, float]

    @classmethod
    def of(cls, seconds: dict[str, list[float]]) -> PipelineCosts:
        """Of the seconds of every pair, by what ran."""
        taken = {name: np.array(times) for name, times in seconds.items()}
        return cls(
            _median(taken["humansd"] / (taken["plain"] + taken["encode"])),
            _median(taken["humansd"] / taken["modules"]),
            {name: float(np.median(times)) for name, times in taken.items()},
        )


def benchmark_pipeline(
    model: str = "pocket", *, steps: int = 25, pairs: int = 20, device: str = "auto", dtype: str = "fp32"
) -> str:
    """Tables of `measure_pipeline` for `model` with one of the example poses, one for each clock.

    On a CPU one thread does the work, so that its CPU seconds tell what other programs' work cannot blur.

    Raises:
        ValueError: fewer than two pairs, or no step; or as of `load_pipeline`.
    """
    pipeline = load_pipeline(model, device, dtype=dtype, variant="full")
    pose = read_pose_files(example_poses() / "walking.json")[0].pose
    assert isinstance(pose, People)
    threads = torch.get_num_threads()
    if pipeline.unet.device.type == "cpu":
        torch.set_num_threads(1)
    try:
        costs = measure_pipeline(pipeline, pose, steps=steps, pairs=pairs)
        where = device_name(pipeline.unet.device)
    finally:
        torch.set_num_threads(threads)
    side, precision = pipeline.default_size[0], pipeline.unet.dtype
    head = f"{model}, {side} px, {steps} steps, batch 1, {precision}, {where}; {pairs} pairs"
    return "\n\n".join([head, *(_table(clock, one) for clock, one in costs.items())])


def _table(clock: str, costs: PipelineCosts) -> str:
    seconds = costs.seconds
    beside = seconds["plain"] + seconds["encode"]
    rows = [
        ["HumanSD, two branches", f"{seconds['humansd']:.4f}", ""],
        ["plain Stable Diffusion and one skeleton encoded", f"{beside:.4f}", _told(costs.over_plain)],
        ["its modules alone", f"{seconds['modules']:.4f}", _told(costs.over_modules)],
    ]
    return markdown_table(["what", f"{clock} (median)", "HumanSD against it: median ratio (95 %)"], rows)


def measure_pipeline(pipeline: HumanSDPipeline, people: People, *, steps: int, pairs: int) -> dict[str, PipelineCosts]:
    """Times everything once for each pair, in a shuffled order, after a warm-up.

    Returns:
        By clock: "seconds" by the wall; on a CPU "CPU seconds" of all threads of this process too.

    Raises:
        ValueError: fewer than two pairs, or no step.
    """
    if pairs < 2 or steps < 1:
        raise ValueError(f"pairs is {pairs} and steps is {steps}; needs 2 pairs or more and 1 step or more")
    plain = without_pose(pipeline)
    for one in (pipeline, plain):
        one.set_progress_bar_config(disable=True)
    options: dict[str, Any] = {"num_inference_steps": steps, "guidance_scale": SCALE, "output_type": "np"}
    kinds: dict[str, Callable[[], object]] = {
        "humansd": lambda: pipeline(PROMPT, people, seed=0, pose_guidance_scale=1.0, **options),
        "plain": lambda: plain(PROMPT, generator=torch.Generator().manual_seed(0), **options),
        "encode": lambda: pipeline.encode_pose([people]),
        "modules": _modules(pipeline, steps),
    }
    device = pipeline.unet.device
    clocks = {"seconds": time.perf_counter} | ({"CPU seconds": time.process_time} if device.type == "cpu" else {})
    taken: dict[str, dict[str, list[float]]] = {clock: {name: [] for name in kinds} for clock in clocks}
    order = random.Random(0)
    for run in kinds.values():
        run()
    for _ in range(pairs):
        for name in order.sample(list(kinds), len(kinds)):
            wait(device)
            starts = {clock: read() for clock, read in clocks.items()}
            kinds[name]()
            wait(device)
            for clock, read in clocks.items():
                taken[clock][name].append(read() - starts[clock])
    return {clock: PipelineCosts.of(seconds) for clock, seconds in taken.items()}


def _modules(pipeline: HumanSDPipeline, steps: int) -> Callable[[], object]:
    """The same calls of text encoder, VAE and UNet as for one image with two branches, on inputs of their shape."""
    device, dtype = pipeline.unet.device, pipeline.unet.dtype
    width, height = pipeline.default_size
    length = pipeline.text_encoder.config.max_position_embeddings
    with warnings.catch_warnings():  # a small model cuts the prompt
        warnings.simplefilter("ignore")
        ids = token_ids(pipeline.tokenizer, [PROMPT, ""], length)[0].to(device)
    drawing = torch.zeros(1, 3, height, width, device=device)

    @torch.no_grad()
    def run() -> Tensor:
        text = pipeline.text_encoder(ids)[0].to(dtype)
        skeleton = encode_images(pipeline.vae, drawing).to(dtype)
        noisy = torch.cat([torch.zeros_like(skeleton), skeleton], dim=1).repeat(2, 1, 1, 1)
        for timestep in range(steps):
            pipeline.unet(noisy, timestep, encoder_hidden_states=text, return_dict=False)
        return decode_latents(pipeline.vae, skeleton)

    return run


def _median(ratios: NDArray[np.float64]) -> tuple[float, float, float]:
    """The median and the ends of its 95 % interval over pairs drawn with replacement."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (DRAWS, len(ratios))), axis=1)
    low, high = np.quantile(medians, [0.025, 0.975])
    return float(np.median(ratios)), float(low), float(high)


def _told(ratio: tuple[float, float, float]) -> str:
    return "{:.3f} ({:.3f} to {:.3f})".format(*ratio)
