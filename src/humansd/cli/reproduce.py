"""Commands that make a table or a figure of the paper again."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli import adapter_figure3, reproduce_humansd
from humansd.cli.arguments import Group, setting


def add(commands: Group) -> None:
    """reproduce table1 to table4, ablation, figure4, figure7, conflict, beyond-people and adapter-figure3."""
    group = commands.group("reproduce", "a table or a figure of HumanSD's paper, at the scale you have")
    _add_table1(group.command("table1", "train with one method after the other and measure; resumable", _table1))
    _add_table2(group.command("table2", "train with one loss after the other and measure; resumable", _table2))
    _add_ablation(group.command("ablation", "what helps a small model to learn, at equal samples", _ablation))
    _add_figure4(group.command("figure4", "what the heatmap-guided loss sees at several timesteps", _figure4))
    reproduce_humansd.add(group, _add_inputs)
    adapter_figure3.add(group)


def _add_inputs(sub: argparse.ArgumentParser, *, losses: bool = True) -> None:
    """What all that train need: a start, data, poses. losses: whether they choose one, and so an estimator for it."""
    sub.add_argument(
        "--base-model",
        default="",
        metavar="FOLDER_OR_ID",
        help="the Stable Diffusion that all start from (default: the pocket model without its input for a pose)",
    )
    sub.add_argument("--data", default="", metavar="SHARDS", help="to train on (default: Atelier, rendered in --out)")
    sub.add_argument(
        "--test", default="", metavar="SHARDS", help="whose poses are drawn (default: Atelier, rendered in --out)"
    )
    sub.add_argument("--images", type=int, default=10_000, help="to render, without --data (default: 10000)")
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="given again, it goes on")
    sub.add_argument("--batch", type=int, default=8, help="images drawn at once (default: 8)")
    sub.add_argument("--sampling-steps", type=int, default=15, help="of each image (default: 15)")
    sub.add_argument("--seed", type=int, action="append", help="of a training; three for a claim (default: 2)")
    sub.add_argument("--jobs", type=int, default=1, help="models side by side, for a GPU (default: 1)")
    sub.add_argument("--set", dest="settings", action="append", default=[], type=setting, metavar="KEY=VALUE")
    if losses:
        told = "the losses' HigherHRNet (default: as shipped)"
        sub.add_argument("--estimator", default="", metavar="FOLDER", help=told)
    sub.add_argument("--held-out", default="centernet", metavar="NAME[=SOURCE]", help="measures (default: centernet)")


def _add_table1(sub: argparse.ArgumentParser) -> None:
    _add_inputs(sub)
    reproduce_humansd.add_guidance(sub)
    sub.add_argument("--row", action="append", metavar="NAME", help="repeatable; humansd among them (default: all)")
    sub.add_argument("--size", default="pocket", help="the presets METHOD-SIZE: pocket, sd15 or sd21 (default: pocket)")
    sub.add_argument("--steps", type=int, default=1875, help="of each training (default: 1875)")
    sub.add_argument("--poses", type=int, default=512, help="that are drawn and measured (default: 512)")
    sub.add_argument("--curve-steps", type=int, default=0, help="a point of the learning curves every so many steps")
    sub.add_argument("--curve-poses", type=int, default=128, help="of each of those points (default: 128)")
    sub.epilog = reproduce_humansd.cost("6 trainings (--row) x --steps 1875 x batch 32 = 360,000 samples")


def _table1(args: argparse.Namespace) -> None:
    from humansd.inference.sampling import SamplingConfig
    from humansd.reproduce.table1 import ROWS, Table1Settings, reproduce_table1

    settings = Table1Settings(
        base_model=args.base_model,
        data=args.data,
        test=args.test,
        images=args.images,
        estimator=args.estimator,
        held_out=args.held_out,
        size=args.size,
        rows=tuple(args.row or ROWS),
        steps=args.steps,
        poses=args.poses,
        batch_size=args.batch,
        seeds=tuple(args.seed or (2,)),
        curve_steps=args.curve_steps,
        curve_poses=args.curve_poses,
        sampling=SamplingConfig(args.sampling_steps, args.guidance_scale, args.pose_guidance_scale),
        overrides=tuple(args.settings),
    )
    print(reproduce_table1(settings, args.out, args.jobs))


def _add_table2(sub: argparse.ArgumentParser) -> None:
    _add_inputs(sub)
    sub.add_argument("--loss", action="append", metavar="NAME", help="repeatable; ldm among them (default: all five)")
    sub.add_argument("--steps", type=int, default=500, help="of each training (default: 500)")
    sub.add_argument("--head-steps", type=int, default=300, help="of the latent heatmap head (default: 300)")
    sub.add_argument("--poses", type=int, default=256, help="that are drawn and measured (default: 256)")
    sub.add_argument("--preset", default="pocket-humansd", help="how to train (default: pocket-humansd)")
    sub.epilog = reproduce_humansd.cost(
        "5 trainings (--loss) x --steps 500 x batch 32 = 80,000 samples, and 300 x 32 = 9,600 of the head"
    )


def _table2(args: argparse.Namespace) -> None:
    from humansd.inference.sampling import SamplingConfig
    from humansd.reproduce.table2 import LOSSES, Table2Settings, reproduce_table2

    settings = Table2Settings(
        base_model=args.base_model,
        data=args.data,
        test=args.test,
        images=args.images,
        estimator=args.estimator,
        held_out=args.held_out,
        preset=args.preset,
        losses=tuple(args.loss or LOSSES),
        steps=args.steps,
        head_steps=args.head_steps,
        poses=args.poses,
        batch_size=args.batch,
        seeds=tuple(args.seed or (2,)),
        sampling=SamplingConfig(args.sampling_steps),
        overrides=tuple(args.settings),
    )
    print(reproduce_table2(settings, args.out, args.jobs))


def _add_ablation(sub: argparse.ArgumentParser) -> None:
    _add_inputs(sub, losses=False)
    reproduce_humansd.add_guidance(sub)
    sub.set_defaults(images=6000)
    sub.add_argument("--row", action="append", metavar="NAME", help="repeatable; plain among them (default: all)")
    sub.add_argument("--samples", type=int, default=30_000, help="of each training (default: 30000)")
    sub.add_argument("--poses", type=int, default=512, help="that are drawn and measured (default: 512)")
    sub.add_argument("--preset", default="pocket-humansd", help="how to train (default: pocket-humansd)")
    sub.add_argument("--clip", default="", metavar="FOLDER", help="the CLIP that measures (default: the shipped one)")


def _ablation(args: argparse.Namespace) -> None:
    from humansd.inference.sampling import SamplingConfig
    from humansd.reproduce.ablation import ROWS, AblationSettings, reproduce_ablation

    settings = AblationSettings(
        base_model=args.base_model,
        data=args.data,
        test=args.test,
        images=args.images,
        held_out=args.held_out,
        clip=args.clip,
        preset=args.preset,
        rows=tuple(args.row or ROWS),
        samples=args.samples,
        poses=args.poses,
        batch_size=args.batch,
        seeds=tuple(args.seed or (2,)),
        sampling=SamplingConfig(args.sampling_steps, args.guidance_scale, args.pose_guidance_scale),
        overrides=tuple(args.settings),
    )
    print(reproduce_ablation(settings, args.out, args.jobs))


def _add_figure4(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--data", type=Path, required=True, metavar="SHARDS")
    sub.add_argument("--out", type=Path, required=True, metavar="PNG")
    sub.add_argument("--sample", type=int, default=0, help="which of the data, from 0 (default: 0)")
    sub.add_argument("--timestep", type=int, action="append", help="repeatable (default: 100 300 500 700 900)")
    sub.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    sub.add_argument("--estimator", default="", metavar="FOLDER", help="a HigherHRNet (default: as shipped)")


def _figure4(args: argparse.Namespace) -> None:
    from humansd.reproduce.figure4 import TIMESTEPS, draw_figure4

    timesteps = tuple(args.timestep or TIMESTEPS)
    print(
        draw_figure4(
            args.model,
            args.data,
            args.out,
            estimator=args.estimator,
            sample=args.sample,
            timesteps=timesteps,
            seed=args.seed,
        )
    )
