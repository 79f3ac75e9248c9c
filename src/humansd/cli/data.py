"""Commands that make and show training data."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from humansd.cli import build, export
from humansd.cli.arguments import Group


def add(commands: Group) -> None:
    """data atelier, import, build, union, inspect, show and export-prompts."""
    group = commands.group("data", "make and look at training data")
    _add_atelier(group.command("atelier", "render people and captions into shards; resumable", _atelier))
    build.add(group)
    _add_show(group.command("show", "images, skeletons and captions of shards on one sheet", _show))
    export.add(group)


def _add_atelier(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--count", type=int, required=True, help="number of images, of pairs with --pairs")
    sub.add_argument("--pairs", action="store_true", help="each scene in two poses, with what may change between them")
    sub.add_argument("--people", type=int, default=1, help="of each image of a pair, 1 to 3 (default: 1)")
    sub.add_argument("--size", type=int, default=128, help="pixels a side (default: 128)")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR")
    sub.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default: one a core)")


def _atelier(args: argparse.Namespace) -> None:
    how = {"size": args.size, "seed": args.seed, "workers": args.workers}
    if args.pairs:
        from humansd.synthetic.pairs import write_pairs

        manifest = write_pairs(args.out, args.count, people=args.people, **how)
    else:
        if args.people != 1:
            raise ValueError("--people is of --pairs; without it, leave it out: Atelier decides how many there are")
        from humansd.synthetic.dataset import write_atelier

        manifest = write_atelier(args.out, args.count, **how)
    print(f"{manifest['count']} images in {len(manifest['shards'])} shards in {args.out}")


def _add_show(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("shards", metavar="SHARDS", help="folder, .tar file or quoted glob")
    sub.add_argument("--out", type=Path, required=True, metavar="PNG")
    sub.add_argument("--n", type=int, default=24, help="how many (default: 24)")


def _show(args: argparse.Namespace) -> None:
    from humansd.data.sheet import show_shards

    print(f"{args.out}: {show_shards(args.shards, args.out, n=args.n)} samples")
