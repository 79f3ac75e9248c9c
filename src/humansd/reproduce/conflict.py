"""The conflict of two branches (HumanSD, sec. 3.2, Eq. 2 to 5, figure 3): the reason for native guidance.

A dual-branch model (ControlNet) adds the answers of its branch, which knows text and pose, to the features of the
frozen UNet, which knows the text alone. A native model (HumanSD) has one encoder that knows both. Here the features of
both branches, and their sum, stand beside the native model's at the same places, on the same noisy latents, step by
step, for captions that fit the pose and for captions of another image that ask for another number of people.

The latents are those that the dual model goes through when it draws, without guidance. Both models must come from one
base: otherwise their features have nothing in common.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from humansd.core.files import write_json, write_text
from humansd.evaluation.report import html_page, html_table
from humansd.evaluation.scores import plain
from humansd.evaluation.sources import Cut
from humansd.evaluation.tables import shown
from humansd.evaluation.validator import first_samples
from humansd.inference.pretrained import load_pipeline
from humansd.metrics.bootstrap import mean_of, paired_comparison
from humansd.models.codec import vae_scale_factor
from humansd.models.digests import networks_digest
from humansd.pipelines.humansd import HumanSDPipeline
from humansd.reproduce.charts import line_chart

CAPTIONS = ("fits", "contradicts")
# Measures of one image at one step, means over the places where branches meet. frozen, control: features of the two
# branches; native: the native model's; sum: frozen + control, which is what the dual model's decoder reads.
MEASURES = {
    "cosine of frozen and native": "direction of the frozen branch's features",
    "cosine of control and native": "direction of the control branch's answers",
    "cosine of sum and native": "direction of what the decoder reads",
    "cosine of frozen and control": "whether the branches pull the same way",
    "frozen / native": "norms",
    "control / native": "norms",
    "sum / native": "norms",
}


@dataclass(frozen=True)
class ConflictSettings:
    """What is compared.

    native: folder of a HumanSD. dual: folder of a ControlNet from the same base, as table 1 leaves it. samples: the
    first so many of the data. steps: denoising steps. seed: of the noise.
    """

    native: str
    dual: str
    samples: int = 32
    steps: int = 15
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("steps", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be {least} or more")


def measure_conflict(settings: ConflictSettings, data: Path, out: Path) -> dict[str, Any]:
    """Writes conflict.json and conflict.html to `out` and returns what the JSON holds: `timesteps`; `captions`, of
    both kinds the mean of every measure at each step; `places`, the same by place, over the steps; `differences`,
    captions that contradict less those that fit, by measure, paired over images with 95 % intervals.

    Raises:
        ValueError: models of other kinds or of two bases, or data whose captions all ask for as many people.
    """
    native, dual = load_pipeline(settings.native), load_pipeline(settings.dual)
    check_pair(native, dual)
    samples = [Cut.of(one, native.default_size) for one in first_samples(data, settings.samples)]
    captions = {"fits": [one.caption for one in samples], "contradicts": contradicting(samples)}
    timesteps, found = [], {}
    for kind in CAPTIONS:
        runs = [
            _trace(native, dual, one, text, settings, i) for i, (one, text) in enumerate(zip(samples, captions[kind]))
        ]
        timesteps, found[kind] = runs[0][0], np.stack([values for _, values in runs])  # (n, steps, places, measures)
    results: dict[str, Any] = plain(
        {
            "settings": {**asdict(settings), "native": Path(settings.native).name, "dual": Path(settings.dual).name},
            "images": len(samples),
            "timesteps": timesteps,
            "captions": {kind: _by_measure(values.mean(axis=(0, 2))) for kind, values in found.items()},
            "places": {kind: _by_measure(values.mean(axis=(0, 1))) for kind, values in found.items()},
            "differences": _differences(found["contradicts"], found["fits"]),
        }
    )
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "conflict.json", results)
    write_text(out / "conflict.html", html_page("HumanSD: the conflict of two branches", _page(results)))
    return results


def check_pair(native: HumanSDPipeline, dual: HumanSDPipeline) -> None:
    """ValueError unless one is a HumanSD, the other a ControlNet, and both have the autoencoder, text encoder and
    widths of one base. Whether both UNets were trained from one, a folder does not tell."""
    for pipeline, method, option in ((native, "humansd", "--native"), (dual, "controlnet", "--dual")):
        if pipeline.method.name != method:
            raise ValueError(f"{option}: is of the method {pipeline.method.name!r}; name a folder of {method!r}")
    same = [networks_digest([one.vae, one.text_encoder]) for one in (native, dual)]
    widths = [one.unet.config.block_out_channels for one in (native, dual)]
    if same[0] != same[1] or list(widths[0]) != list(widths[1]):
        raise ValueError(
            "--native and --dual do not come from one base; train both with one --base-model, as table1 does"
        )


def contradicting(samples: Sequence[Cut]) -> list[str]:
    """For each sample the caption of the next that shows another number of people.

    Raises:
        ValueError: all show as many.
    """
    counts = [int(one.people.labelled.any(axis=1).sum()) for one in samples]
    found = []
    for i, count in enumerate(counts):
        later = (*range(i + 1, len(samples)), *range(i))
        other = next((k for k in later if counts[k] != count), None)
        if other is None:
            raise ValueError(f"all {len(samples)} samples show {count} people; take more with --samples")
        found.append(samples[other].caption)
    return found


@torch.no_grad()
def _trace(
    native: HumanSDPipeline, dual: HumanSDPipeline, sample: Cut, caption: str, settings: ConflictSettings, number: int
) -> tuple[list[int], NDArray[np.float64]]:
    """The timesteps, and (steps, places, measures) of one image with one caption."""
    size = native.default_size
    text = dual.encode_prompt([caption])
    poses = {id(one): one.encode_poses([sample.people], size) for one in (native, dual)}
    scheduler = copy.deepcopy(dual.scheduler)
    scheduler.set_timesteps(settings.steps)
    generator = torch.Generator().manual_seed(settings.seed + number)
    side = [edge // vae_scale_factor(dual.vae) for edge in reversed(size)]
    latents = torch.randn(1, dual.vae.config.latent_channels, *side, generator=generator).to(
        dual.unet.device, text.dtype
    )
    latents = latents * scheduler.init_noise_sigma
    rows = []
    for t in scheduler.timesteps:
        noisy = scheduler.scale_model_input(latents, t)
        _, ours, _ = _features(native, noisy, t, text.to(native.unet.dtype), poses[id(native)])
        answer, frozen, control = _features(dual, noisy, t, text, poses[id(dual)])
        rows.append([_measures(*place) for place in zip(frozen, control, ours, strict=True)])
        latents = scheduler.step(answer, t, latents).prev_sample
    return [int(t) for t in scheduler.timesteps], np.array(rows)


def _features(
    pipeline: HumanSDPipeline, noisy: Tensor, t: Tensor, text: Tensor, pose: tuple[Tensor, ...]
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The UNet's answer, the features of its encoder and middle before anything is added, and what is added there."""
    unet = pipeline.unet
    given = pipeline.method.unet_inputs(pipeline.networks, noisy, t.to(unet.device), text, pose)
    added = [*given.get("down_block_additional_residuals", ()), given.get("mid_block_additional_residual")]
    with recorded(unet) as features:
        answer = unet(**given).sample
    return answer, features, [one for one in added if one is not None]


@contextmanager
def recorded(unet: Any) -> Iterator[list[Tensor]]:
    """What the encoder of a UNet hands to its decoder in a call inside: of `conv_in`, of every layer of the down
    blocks, and of the middle block."""
    found: list[Tensor] = []

    def block(_: Any, __: Any, output: Any) -> None:
        found.extend(output[1])

    def layer(_: Any, __: Any, output: Any) -> None:
        found.append(output)

    hooks = [unet.conv_in.register_forward_hook(layer), unet.mid_block.register_forward_hook(layer)]
    hooks += [one.register_forward_hook(block) for one in unet.down_blocks]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


def _measures(frozen: Tensor, control: Tensor, native: Tensor) -> list[float]:
    """In the order of `MEASURES`; the cosine with what is zero everywhere is 0."""
    flat = {
        "frozen": frozen.flatten().double(),
        "control": control.flatten().double(),
        "sum": (frozen + control).flatten().double(),
        "native": native.flatten().double(),
    }
    norms = {name: float(value.norm()) for name, value in flat.items()}

    def cosine(one: str, other: str) -> float:
        size = norms[one] * norms[other]
        return float(flat[one] @ flat[other]) / size if size else 0.0

    cosines = [cosine("frozen", "native"), cosine("control", "native"), cosine("sum", "native")]
    cosines.append(cosine("frozen", "control"))
    return cosines + [norms[name] / norms["native"] for name in ("frozen", "control", "sum")]


def _by_measure(values: NDArray[np.float64]) -> dict[str, list[float]]:
    """(k, measures) -> measure -> k values."""
    return {name: [float(value) for value in values[:, i]] for i, name in enumerate(MEASURES)}


def _differences(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> dict[str, Any]:
    """(n, steps, places, measures) twice -> measure -> comparison of the means over steps and places."""
    one, other = ours.mean(axis=(1, 2)), theirs.mean(axis=(1, 2))
    return {
        name: asdict(paired_comparison(mean_of(one[:, i]), mean_of(other[:, i]), len(one)))
        for i, name in enumerate(MEASURES)
    }


def _page(results: dict[str, Any]) -> str:
    settings = results["settings"]
    charts = []
    for title, prefix in (("Directions", "cosine"), ("Norms", "")):
        for kind in CAPTIONS:
            lines = {
                name: list(zip(map(float, range(len(results["timesteps"]))), values))
                for name, values in results["captions"][kind].items()
                if name.startswith("cosine") == bool(prefix)
            }
            labels = [str(t) for t in results["timesteps"]]
            charts.append(line_chart(f"{title}: the caption {kind}", "timestep", _short(lines), labels))
    rows = [
        [name, shown(one["difference"], 1, 3), f"{shown(one['low'], 1, 3)} to {shown(one['high'], 1, 3)}"]
        for name, one in results["differences"].items()
    ]
    about = (
        f"{results['images']} images, {settings['steps']} steps. frozen: features of the frozen branch of "
        f"{settings['dual']}; control: what its other branch adds; sum: both, which the decoder reads; native: the "
        f"features of {settings['native']} at the same places, on the same latents, with the same text. That both were "
        "trained from one UNet is taken on trust: autoencoder, text encoder and widths were compared."
    )
    table = html_table(["contradicting less fitting captions", "difference", "95 % interval"], rows)
    return f"<p>{about}</p>\n{''.join(charts)}\n{table}"


def _short(lines: dict[str, Any]) -> dict[str, Any]:
    return {name.removeprefix("cosine of "): values for name, values in lines.items()}
