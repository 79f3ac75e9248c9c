"""Commands that evaluate and compare models."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group, add_method, add_precision, add_sampling, add_variant, sampling_of
from humansd.cli.checks import check_estimator, check_model, check_there

POSE_SEED, POSE_MIN_JOINTS = 256, 8


def add(commands: Group) -> None:
    """evaluate and compare."""
    _add_evaluate(commands.command("evaluate", "draw the poses of a data set and measure them; resumable", _evaluate))
    _add_compare(commands.command("compare", "evaluations side by side, with significance", _compare))


def _add_evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="pocket", help="pocket, a folder, or a hub id (default: pocket)")
    add_method(sub)
    add_variant(sub)
    data = sub.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, metavar="SHARDS", help="folder, .tar file or quoted glob")
    data.add_argument(
        "--poses", type=Path, metavar="FILE_OR_FOLDER", help="real poses without images: COCO JSON or any pose file"
    )
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run; given again, it goes on")
    sub.add_argument("--limit", type=int, default=0, help="the first so many samples or drawn images (default: all)")
    sub.add_argument("--count", type=int, default=0, help="images drawn from --poses (default: all)")
    sub.add_argument(
        "--pose-seed", type=int, default=POSE_SEED, help=f"draws images of --poses, captions (default: {POSE_SEED})"
    )
    sub.add_argument(
        "--phrasing", choices=("seen", "held_out"), default="seen", help="of the captions of --poses (default: seen)"
    )
    sub.add_argument(
        "--min-joints",
        type=int,
        metavar="N",
        help=f"AP ignores people with fewer labelled joints (default: 1, with --poses {POSE_MIN_JOINTS})",
    )
    sub.add_argument("--seed", type=int, default=0, help="of the first image, then one more each (default: 0)")
    add_sampling(sub)
    sub.add_argument("--batch-size", type=int, default=8, help="images drawn at once (default: 8)")
    sub.add_argument(
        "--estimator", default="centernet", metavar="NAME[=SOURCE]", help="finds poses (default: centernet)"
    )
    sub.add_argument(
        "--features",
        action="append",
        metavar="NAME[=SOURCE]",
        help="features for distances: pocket, inception, transformers; repeatable (default: pocket)",
    )
    sub.add_argument(
        "--clip", default="", metavar="FOLDER_OR_ID", help="for CLIPSIM; none leaves it out (default: the pocket pair)"
    )
    sub.add_argument("--count-threshold", type=float, metavar="SCORE", help="people with at least it are counted")
    sub.add_argument("--timing-runs", type=int, default=20, help="images drawn one by one; 0: none (default: 20)")
    sub.add_argument("--text-only", action="store_true", help="drop the poses: what the model knows without them")
    add_precision(sub)


def _evaluate(args: argparse.Namespace) -> None:
    sampling = sampling_of(args)
    check_model(args.model)
    check_estimator(args.estimator)
    check_there("--poses", args.poses)
    if args.data is not None and "*" not in str(args.data):
        check_there("--data", args.data)
    from humansd.evaluation.evaluate import EvaluationSettings, evaluate
    from humansd.evaluation.sources import Source
    from humansd.evaluation.tables import as_markdown

    data: Path | Source = args.data
    if args.poses is not None:
        from humansd.evaluation.pose_sets import read_pose_set

        drawn = {"count": args.count, "limit": args.limit, "seed": args.pose_seed, "phrasing": args.phrasing}
        data = read_pose_set(args.poses, **drawn)
    elif args.count:
        raise ValueError("--count is of --poses; say how many samples of --data with --limit")
    usual_joints = 1 if args.poses is None else POSE_MIN_JOINTS
    settings = EvaluationSettings(
        model=args.model,
        method=args.method,
        pose_network=args.pose_network,
        variant=args.variant,
        decoder=args.decoder,
        estimator=args.estimator,
        features=tuple(args.features or ("pocket",)),
        clip=args.clip,
        limit=args.limit,
        seed=args.seed,
        count_threshold=args.count_threshold,
        min_joints=usual_joints if args.min_joints is None else args.min_joints,
        sampling=sampling,
        batch_size=args.batch_size,
        timing_runs=args.timing_runs,
        text_only=args.text_only,
        device=args.device,
        dtype=args.dtype,
        compile_unet=args.compile,
    )
    print(as_markdown(evaluate(settings, data, args.out)))
    print(f"report: {args.out / 'report.html'}")


def _add_compare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="what `evaluate --out` wrote; first: reference")
    sub.add_argument("--out", type=Path, metavar="DIR", help="for compare.json, compare.md and compare.html")


def _compare(args: argparse.Namespace) -> None:
    from humansd.evaluation.compare import compare_runs, comparison_markdown

    print(comparison_markdown(compare_runs(args.runs, args.out)))
    if args.out is not None:
        print(f"report: {args.out / 'compare.html'}")
