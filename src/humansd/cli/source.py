"""What is drawn and measured: the samples of shards, or real poses without images."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from humansd.cli.checks import check_there

if TYPE_CHECKING:
    from humansd.evaluation.sources import Source

POSE_SEED = 256


def add_source(sub: argparse.ArgumentParser) -> None:
    """`source_of` reads it."""
    data = sub.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, metavar="SHARDS", help="folder, .tar file or quoted glob")
    add_pose_set(sub, data)


def add_pose_set(sub: argparse.ArgumentParser, group: argparse._MutuallyExclusiveGroup) -> None:
    """Real poses in the place of shards, and how many of either."""
    group.add_argument(
        "--poses", type=Path, metavar="FILE_OR_FOLDER", help="real poses without images: COCO JSON or any pose file"
    )
    sub.add_argument("--limit", type=int, default=0, help="the first so many samples or drawn images (default: all)")
    sub.add_argument("--count", type=int, default=0, help="images drawn from --poses (default: all)")
    sub.add_argument(
        "--pose-seed", type=int, default=POSE_SEED, help=f"draws images of --poses, captions (default: {POSE_SEED})"
    )
    sub.add_argument(
        "--phrasing", choices=("seen", "held_out"), default="seen", help="of the captions of --poses (default: seen)"
    )


def check_source(args: argparse.Namespace) -> None:
    """What is asked before anything is loaded; errors as of `source_of`."""
    check_there("--poses", args.poses)
    if args.data is not None and "*" not in str(args.data):
        check_there("--data", args.data)
    if args.data is not None and args.count:
        raise ValueError("--count is of --poses; say how many samples of shards with --limit")


def source_of(args: argparse.Namespace) -> Source:
    """What `add_source` was given. Errors as of `read_pose_set`, and for --count of shards."""
    if args.poses is None:
        from humansd.evaluation.sources import Shards

        return Shards(args.data, args.limit)
    from humansd.evaluation.pose_sets import read_pose_set

    return read_pose_set(args.poses, count=args.count, limit=args.limit, seed=args.pose_seed, phrasing=args.phrasing)
