"""The command that gives another tool the poses and prompts of a data set."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group, size
from humansd.cli.source import add_pose_set, check_source, source_of


def add(group: Group) -> None:
    """Adds it to the group `data`."""
    text = "poses and prompts for another tool, whose images `humansd evaluate --images` measures"
    sub = group.command("export-prompts", text, _export)
    data = sub.add_mutually_exclusive_group(required=True)
    data.add_argument("data", type=Path, nargs="?", metavar="SHARDS", help="folder, .tar file or quoted glob")
    add_pose_set(sub, data)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")
    sub.add_argument(
        "--size", type=size, default=(512, 512), metavar="WxH", help="of the images to be drawn, px (default: 512x512)"
    )
    sub.add_argument("--seed", type=int, default=0, help="of the first image, then one more each (default: 0)")


def _export(args: argparse.Namespace) -> None:
    check_source(args)
    from humansd.evaluation.prompt_export import export_prompts

    count = export_prompts(source_of(args), args.out, args.size, seed=args.seed)
    where = f"--poses {args.poses}" if args.data is None else f"--data {args.data}"
    print(f"{count} prompts and poses of {args.size[0]} x {args.size[1]} px in {args.out}")
    print(f"Name each image by its key, then: humansd evaluate --images FOLDER {where} --out DIR")
