"""Commands that evaluate and compare models."""

from __future__ import annotations

import argparse
from pathlib import Path

from humansd.cli.arguments import Group, add_method, add_precision, add_sampling, add_variant, sampling_of
from humansd.cli.checks import check_estimator, check_model, check_runs, check_there, say_loading
from humansd.cli.source import add_source, check_source, source_of

POSE_MIN_JOINTS = 8


def add(commands: Group) -> None:
    """evaluate and compare."""
    _add_evaluate(commands.command("evaluate", "draw the poses of a data set and measure them; resumable", _evaluate))
    _add_compare(commands.command("compare", "evaluations side by side, with significance", _compare))


def _add_evaluate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--model", default="", help="pocket, a folder, or a hub id (default: pocket)")
    add_method(sub)
    add_variant(sub)
    sub.add_argument(
        "--images",
        type=Path,
        metavar="FOLDER",
        help="measure these in the place of a model's: what another tool drew, named by the keys of the samples",
    )
    add_source(sub)
    sub.add_argument("--out", type=Path, required=True, metavar="DIR", help="the run; given again, it goes on")
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
    check_model(args.model or "pocket")
    check_estimator(args.estimator)
    check_source(args)
    if args.images is not None:
        _check_images(args)
    data = source_of(args)
    data.total((1, 1))  # told before torch is imported
    if args.images is None:
        say_loading(args.model or "pocket")
    from humansd.evaluation.evaluate import EvaluationSettings, evaluate
    from humansd.evaluation.tables import as_markdown

    usual_joints = 1 if args.poses is None else POSE_MIN_JOINTS
    settings = EvaluationSettings(
        model=args.model or "pocket",
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
        images="" if args.images is None else str(args.images),
    )
    print(as_markdown(evaluate(settings, data, args.out)))
    print(f"report: {args.out / 'report.html'}")


def _check_images(args: argparse.Namespace) -> None:
    """ValueError where something is said of a model, and images are given."""
    check_there("--images", args.images)
    drawing = {
        "--model": args.model,
        "--method": args.method,
        "--pose-network": args.pose_network,
        "--variant": args.variant,
        "--decoder": args.decoder,
        "--text-only": args.text_only,
        "--compile": args.compile,
    }
    said = [option for option, value in drawing.items() if value not in ("", None, False)]
    window = {"guidance_start": "guidance_steps", "guidance_end": "guidance_steps"}
    changed = [window.get(name, name) for name in sampling_of(args).changed() if name != "size"]
    said += ["--" + name.replace("_", "-") for name in changed]
    if said:
        raise ValueError(f"{said[0]} is of a model that draws, and --images are there already; leave one out")


def _add_compare(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="what `evaluate --out` wrote; first: reference")
    sub.add_argument("--out", type=Path, metavar="DIR", help="for compare.json, compare.md and compare.html")
    sub.add_argument("--count-threshold", type=float, metavar="SCORE", help="people with at least it are counted")


def _compare(args: argparse.Namespace) -> None:
    check_runs(args.runs)
    from humansd.evaluation.compare import compare_runs, comparison_markdown

    print(comparison_markdown(compare_runs(args.runs, args.out, args.count_threshold)))
    if args.out is not None:
        print(f"report: {args.out / 'compare.html'}")
