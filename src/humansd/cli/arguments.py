"""How commands are added, and arguments that several of them take."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from humansd.inference.sampling import SamplingConfig


class Group:
    """Commands of one level; each sets `run` to the function that carries it out."""

    def __init__(self, parser: argparse.ArgumentParser, common: argparse.ArgumentParser) -> None:
        self._commands, self._common = parser.add_subparsers(metavar="COMMAND", required=True), common

    def command(self, name: str, text: str, run: Callable, *, own_help: bool = False) -> argparse.ArgumentParser:
        """A command; its arguments are added to what this returns. own_help: it adds --help itself."""
        sub = self._commands.add_parser(
            name, help=text, description=text, parents=[self._common], add_help=not own_help
        )
        sub.set_defaults(run=run)
        return sub

    def group(self, name: str, text: str) -> Group:
        """A command that has commands itself."""
        return Group(self._commands.add_parser(name, help=text), self._common)


def add_pose_reading(sub: argparse.ArgumentParser) -> None:
    """What a pose file does not say itself; their names are checked when it is read."""
    sub.add_argument("--canvas", type=size, metavar="WxH", help="pixels, for pose files that do not say theirs")
    sub.add_argument("--units", metavar="NAME", help="pixels, shares, signed, percent or thousandths, of coordinates")
    sub.add_argument("--joints", metavar="SET", help="order of joints without names; `humansd pose formats` lists them")


class _NamedSource(argparse.Action):
    """NAME[=SOURCE] as two values, `estimator` and `source`."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        namespace.estimator, equals, source = values.partition("=")
        if equals:
            namespace.source = source


def add_estimator(sub: argparse.ArgumentParser, default: str = "movenet") -> None:
    """What finds people in photographs, `estimator`, and where its weights are, `source`; empty: those that ship.

    Names are checked when it is loaded, as listing them takes seconds.
    """
    sub.add_argument(
        "--estimator",
        action=_NamedSource,
        default=default,
        metavar="NAME[=SOURCE]",
        help="finds people in photos (default: movenet); SOURCE: folder or hub id of its weights, if not as shipped",
    )
    sub.add_argument("--source", "--estimator-weights", default="", help=argparse.SUPPRESS)  # of version 0.1


def add_device(sub: argparse.ArgumentParser) -> None:
    """Where it computes; `device_of` reads it."""
    sub.add_argument("--device", default="auto", help="such as cuda or cpu (default: a GPU if there is one)")


def device_of(args: argparse.Namespace) -> str:
    """The name of a device that is there. ValueError where it is not."""
    from humansd.models.estimators import usable_device

    return str(usable_device(args.device))


def add_sampling(sub: argparse.ArgumentParser) -> None:
    """How images are drawn; `sampling_of` reads it."""
    sub.add_argument(
        "--num-inference-steps", "--steps", dest="steps", type=int, help="denoising steps (default: as the model says)"
    )
    sub.add_argument(
        "--guidance-scale", "--guidance", type=float, help="how closely to follow the text (default: as the model says)"
    )
    sub.add_argument(
        "--pose-guidance-scale",
        "--pose-guidance",
        type=float,
        help="how closely to follow the pose; not 1 costs time (default: as the model says)",
    )
    sub.add_argument(
        "--guidance-steps",
        type=share_pair,
        default=(0.0, None),
        metavar="FROM-TO",
        help="shares of the steps that are guided at all, such as 0.1-0.8; the others take less time (default: as the "
        "model says)",
    )
    sub.add_argument("--guidance-rescale", type=float, default=0.0, help="0..1, against glaring images (default: 0)")
    sub.add_argument(
        "--negative-prompt", "--negative", default="", metavar="TEXT", help="what the images should not show"
    )
    sub.add_argument("--size", type=size, metavar="WxH", help="of the images, px (default: as the model says)")
    sub.add_argument("--scheduler", default="", metavar="NAME", help="ddim, euler, dpm++-2m ... (default: its own)")
    sub.add_argument("--clip-skip", type=int, metavar="N", help="leave out the text encoder's last N layers")


def sampling_of(args: argparse.Namespace) -> SamplingConfig:
    """What `add_sampling` was given."""
    from humansd.inference.sampling import SamplingConfig

    return SamplingConfig(
        num_inference_steps=args.steps,
        guidance_scale=args.guidance_scale,
        pose_guidance_scale=args.pose_guidance_scale,
        negative_prompt=args.negative_prompt,
        size=args.size,
        scheduler=args.scheduler,
        guidance_start=args.guidance_steps[0],
        guidance_end=args.guidance_steps[1],
        guidance_rescale=args.guidance_rescale,
        clip_skip=args.clip_skip,
    )


def add_method(sub: argparse.ArgumentParser) -> None:
    """A way of conditioning whose weights lie beside a plain Stable Diffusion's; the name is checked when it loads."""
    sub.add_argument(
        "--method",
        default="",
        metavar="NAME",
        help="sd, controlnet, t2i-adapter, t2i-adapter-masks or dual-adapter, where --model is a plain Stable "
        "Diffusion; adapters of several drawings as in t2i-adapter+t2i-adapter-masks (default: as the model says)",
    )
    sub.add_argument(
        "--pose-network",
        default="",
        metavar="FOLDER_OR_ID",
        help="the method's weights, in diffusers' layout, or a published .pth or .safetensors; adapters may be "
        "several, as in A=0.7,B=0.3",
    )


def add_variant(sub: argparse.ArgumentParser) -> None:
    """Small changes of a model that lie beside it; their names are checked when the model is loaded."""
    sub.add_argument(
        "--variant", default="", metavar="NAME", help="of the model's own; full: its UNet as it is (default: its own)"
    )
    sub.add_argument("--decoder", default="", choices=("full", "tiny"), help="(default: as the variant says)")


def add_precision(sub: argparse.ArgumentParser) -> None:
    """Where and how precisely a model draws: `device`, `dtype` and `compile`."""
    add_device(sub)
    sub.add_argument(
        "--dtype",
        default="auto",
        choices=("auto", "fp32", "fp16", "bf16"),
        help="auto: bf16 or fp16 on a GPU, fp32 on a CPU (default)",
    )
    sub.add_argument("--compile", action="store_true", help="compile the UNet: slow to start, then faster")


def share_pair(text: str) -> tuple[float, float]:
    """Two shares from FROM-TO."""
    start, _, end = text.partition("-")
    try:
        pair = float(start), float(end)
    except ValueError:
        pair = (math.nan, math.nan)
    if not 0 <= pair[0] <= pair[1] <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} are no shares of the steps; write FROM-TO, like 0.1-0.8")
    return pair


def weighted(text: str) -> tuple[str, float]:
    """Name and scale from NAME or NAME=SCALE."""
    name, equals, scale = text.rpartition("=")
    if not equals:
        return text, 1.0
    try:
        value = float(scale)
    except ValueError:
        value = math.nan
    if not name or not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r}: write FILE or FILE=SCALE, like style.safetensors=0.8")
    return name, value


def size(text: str) -> tuple[int, int]:
    """Width and height in pixels from WxH."""
    width, _, height = text.lower().partition("x")
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write width x height in pixels, like 640x480")
    return int(width), int(height)


def setting(text: str) -> tuple[str, str]:
    """Key and value from KEY=VALUE."""
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise argparse.ArgumentTypeError(f"{text!r} is no setting; write KEY=VALUE, like steps=1000")
    return key, value
