"""The command that makes the figure of CN117392675A and its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group
from humansd.cli.reproduce_humansd import add_guidance


def add(group: Group) -> None:
    """reproduce adapter-figure3."""
    text = "one prompt and seed, another pose: the secondary adapter and its rivals; resumable"
    _add(group.command("adapter-figure3", text, _run))


def _add(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--base-model", default="", metavar="FOLDER", help="the plain Stable Diffusion (default: no such row)"
    )
    sub.add_argument("--primary", required=True, metavar="FOLDER", help="export of the primary adapter")
    sub.add_argument(
        "--secondary",
        required=True,
        action="append",
        type=_named,
        metavar="NAME=FOLDER",
        help="export of a secondary adapter; repeatable",
    )
    sub.add_argument("--humansd", default="pocket", metavar="MODEL", help="a HumanSD, or none (default: pocket)")
    sub.add_argument(
        "--test", required=True, metavar="SHARDS", help="of `humansd data atelier --pairs`, not learnt from"
    )
    sub.add_argument("--pairs", type=int, default=256, help="that are measured (default: 256)")
    sub.add_argument("--prompts", type=int, default=3, help="of the figure (default: 3)")
    sub.add_argument("--poses", type=int, default=4, help="of the figure (default: 4)")
    sub.add_argument("--steps", type=int, default=25, help="of an image (default: 25)")
    add_guidance(sub)
    sub.add_argument("--seed", type=int, default=0, help="of the first pair (default: 0)")
    sub.add_argument("--batch", type=int, default=4, help="pairs drawn at once (default: 4)")
    sub.add_argument(
        "--weight", type=float, action="append", default=[], help="of the adapters, for further rows; repeatable"
    )
    sub.add_argument("--limit", type=int, default=64, help="pairs whose loss is set beside its limit; 0: none")
    sub.add_argument("--estimator", default="", metavar="FOLDER", help="the loss's HigherHRNet (default: as shipped)")
    sub.add_argument("--held-out", default="centernet", metavar="NAME[=SOURCE]", help="measures (default: centernet)")
    sub.add_argument("--clip", default="", metavar="FOLDER_OR_ID", help="of CLIPSIM (default: the pocket pair)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="given again, it goes on")


def _named(text: str) -> tuple[str, str]:
    name, equals, folder = text.partition("=")
    if not (name and equals and folder):
        raise argparse.ArgumentTypeError(f"{text!r}: write NAME=FOLDER, like secondary=runs/dual/export")
    return name, folder


def _run(args: argparse.Namespace) -> None:
    from humansd.inference.sampling import SamplingConfig
    from humansd.reproduce.adapter_figure3 import reproduce_adapter_figure3
    from humansd.reproduce.adapter_rows import Figure3Settings

    settings = Figure3Settings(
        primary=args.primary,
        secondary=tuple(args.secondary),
        test=args.test,
        base_model=args.base_model,
        humansd="" if args.humansd == "none" else args.humansd,
        pairs=args.pairs,
        prompts=args.prompts,
        poses=args.poses,
        held_out=args.held_out,
        clip=args.clip,
        sampling=SamplingConfig(args.steps, args.guidance_scale, args.pose_guidance_scale, scheduler="ddim"),
        seed=args.seed,
        batch_size=args.batch,
        weights=tuple(args.weight),
        limit=args.limit,
        estimator=args.estimator,
    )
    print(reproduce_adapter_figure3(settings, args.out))
