"""Commands that draw images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from humansd.cli.arguments import (
    Group,
    add_estimator,
    add_method,
    add_pose_reading,
    add_precision,
    add_sampling,
    add_variant,
    sampling_of,
    weighted,
)
from humansd.cli.checks import check_generate, check_model, check_there, say_loading


def add(commands: Group) -> None:
    """generate and demo."""
    _add_generate(commands.command("generate", "draw images of a prompt in a pose", _generate))
    _add_demo(commands.command("demo", "draw the example poses in several styles", _demo))


def _add_generate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("prompts", metavar="PROMPT", nargs="*", help="what the image shows; several draw each")
    sub.add_argument(
        "--pose",
        "--poses",
        type=Path,
        required=True,
        metavar="FILE_OR_FOLDER",
        help="JSON, npz or a photo, or a folder",
    )
    sub.add_argument(
        "--prompts",
        dest="prompt_table",
        type=Path,
        metavar="FILE.csv",
        help="a table in place of prompts: columns prompt, pose, negative_prompt, seed, n ...",
    )
    sub.add_argument(
        "--pose-kind",
        default="auto",
        choices=("auto", "skeleton"),
        help="skeleton: images of drawn skeletons",
    )
    add_pose_reading(sub)
    add_estimator(sub)
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    add_method(sub)
    sub.add_argument("--n", type=int, help="images of each prompt and pose (default: 4; of a row of --prompts 1)")
    add_variant(sub)
    sub.add_argument("--seed", type=int, default=0, help="of the first image, then one more each (default: 0)")
    add_sampling(sub)
    begin = sub.add_argument_group("begin with an image")
    begin.add_argument("--image", type=Path, metavar="IMAGE", help="drawn anew in the pose")
    begin.add_argument("--strength", type=float, help="above 0 to 1: how much may change (default: 0.6; in a mask 1)")
    begin.add_argument(
        "--mask",
        default="",
        metavar="IMAGE|pose",
        help="white is drawn, black kept; pose: where people move",
    )
    add_precision(sub)
    sub.add_argument("--batch-size", type=int, default=8, help="images drawn at once (default: 8)")
    sub.add_argument(
        "--lora", type=weighted, action="append", default=[], metavar="FILE_OR_ID[=SCALE]", help="repeatable"
    )
    sub.add_argument("--embedding", action="append", default=[], metavar="FILE", help="a textual inversion; repeatable")
    sub.add_argument("--out", type=Path, default=Path("out"), metavar="DIR", help="folder to write to (default: out)")


def _generate(args: argparse.Namespace) -> None:
    sampling = sampling_of(args)
    check_generate(args)
    say_loading(args.model)
    from humansd.inference.generate import Model, generate_images
    from humansd.inference.start_image import Beginning

    begin = None if args.image is None else Beginning(args.image, args.strength, args.mask)
    how: dict[str, Any] = {
        "model": Model(
            args.model,
            args.device,
            args.dtype,
            args.compile,
            tuple(args.lora),
            tuple(args.embedding),
            args.method,
            args.pose_network,
            args.variant,
            args.decoder,
        ),
        "seed": args.seed,
        "sampling": sampling,
        "begin": begin,
        "batch_size": args.batch_size,
        "pose_kind": args.pose_kind,
        "canvas": args.canvas,
        "units": args.units,
        "joints": args.joints,
        "estimator": args.estimator,
        "source": args.source,
    }
    if args.prompt_table is None:
        made = generate_images(args.prompts, args.pose, args.out, n=4 if args.n is None else args.n, **how)
    else:
        from humansd.inference.batch import generate_batch

        batch = generate_batch(args.prompt_table, args.pose, args.out, n=args.n or 1, **how)
        made = batch.made
        if batch.left_out:
            print(f"{len(batch.left_out)} rows left out:")
            print(*(f"  line {line}: {problem}" for line, problem in batch.left_out.items()), sep="\n")
        print(f"rows and their images: {batch.table}")
    there = f", {made.kept} of them there already" if made.kept else ""
    print(f"{len(made.images)} images in {args.out}{there}")
    print(*(f"sheet: {sheet}" for sheet in made.sheets), sep="\n")


def _add_demo(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--out", type=Path, default=Path("demo-out"), metavar="DIR", help="default: demo-out")
    sub.add_argument("--poses", type=Path, metavar="FOLDER", help="pose files (default: the examples)")
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    sub.add_argument("--seed", type=int, default=0)


def _demo(args: argparse.Namespace) -> None:
    check_model(args.model)
    check_there("--poses", args.poses)
    say_loading(args.model)
    from humansd.inference.demo import draw_demo, next_command

    made = draw_demo(args.out, poses=args.poses, model=args.model, seed=args.seed)
    print(f"{len(made.images)} images in {args.out}, all of them on {made.sheets[0]}")
    print(f"Next, try:\n  {next_command(args.poses)}")
