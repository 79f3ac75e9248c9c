"""The command that trains."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from humansd.cli.arguments import Group, setting


def add(commands: Group) -> None:
    """train."""
    _add_train(commands.command("train", "train a preset; the same command goes on after a stop", _train))


def _add_train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("preset", metavar="PRESET", nargs="?", help="see --list")
    sub.add_argument("--list", action="store_true", help="name the presets")
    sub.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        type=setting,
        metavar="KEY=VALUE",
        help="repeatable",
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: in the cache folder)")
    sub.add_argument("--dry-run", action="store_true", help="print the settings and the memory they take; run nothing")
    sub.add_argument(
        "--validate", type=Path, metavar="SHARDS", help="draw and score these poses every `validate_steps` steps"
    )
    sub.add_argument("--validate-count", type=int, default=32, help="the first so many of them (default: 32)")
    sub.add_argument("--estimator", default="judge", metavar="NAME[=SOURCE]", help="finds poses (default: judge)")


def _train(args: argparse.Namespace) -> None:
    from humansd.training.presets import PRESETS
    from humansd.training.run import run_preset

    def make_validator(task: Any) -> Any:
        from humansd.evaluation.validator import EstimatorValidator, PoseValidator, first_samples
        from humansd.models.clip_similarity import ClipScorer
        from humansd.models.estimators import load_estimator
        from humansd.pipelines.generate import DEFAULT_SAMPLING
        from humansd.training.estimators import EstimatorTask

        samples = first_samples(args.validate, args.validate_count)
        if isinstance(task, EstimatorTask):
            return EstimatorValidator(task, samples)
        if not hasattr(task, "pipeline"):
            raise ValueError(f"{args.preset}: draws nothing, so it cannot be validated; leave out --validate")
        name, _, source = args.estimator.partition("=")
        judge, scorer = load_estimator(name, source), ClipScorer.from_pretrained()
        return PoseValidator(task.pipeline, samples, judge, scorer, sampling=DEFAULT_SAMPLING)

    if args.list:
        print(*PRESETS, sep="\n")
    elif args.preset is None:
        raise ValueError("name a preset; `humansd train --list` shows them")
    else:
        validator = make_validator if args.validate is not None else None
        print(run_preset(args.preset, dict(args.settings), args.out, args.dry_run, validator))
