"""The command that trains."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from humansd.cli.arguments import Group, setting


def add(commands: Group) -> None:
    """train."""
    _add_train(
        commands.command("train", "train a preset; the same command goes on after a stop", _train, own_help=True)
    )


class _Help(argparse.Action):
    """The usual help, and after a preset what each of its settings means."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        from humansd.training.run import preset_settings
        from humansd.training.settings_help import settings_help

        parser.print_help()
        preset = getattr(namespace, "preset", None)
        if preset is not None:
            try:
                settings = preset_settings(preset)
            except ValueError as error:
                parser.error(str(error))
            print(f"\nsettings of {preset}, as --set takes them:\n{settings_help(settings)}")
        parser.exit()


def _add_train(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("-h", "--help", action=_Help, nargs=0, help="show this, and after PRESET each of its settings")
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
    sub.add_argument(
        "--config", type=Path, metavar="FILE", help="a run's config.json, a dry run, or YAML; --set goes before it"
    )
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder of the run (default: in the cache folder)")
    sub.add_argument(
        "--dry-run", action="store_true", help="check and print the settings and the memory they take; run nothing"
    )
    sub.add_argument(
        "--validate", type=Path, metavar="SHARDS", help="draw and score these poses every `validate_steps` steps"
    )
    sub.add_argument("--validate-count", type=int, default=32, help="the first so many of them (default: 32)")
    sub.add_argument(
        "--estimator", default="centernet", metavar="NAME[=SOURCE]", help="finds poses (default: centernet)"
    )


def _train(args: argparse.Namespace) -> None:
    from humansd.training.presets import PRESETS
    from humansd.training.run import run_preset

    def make(task: Any) -> Any:
        from humansd.evaluation.validator import first_samples, make_validator
        from humansd.training.devices import run_device, run_dtype

        samples, device = first_samples(args.validate, args.validate_count), run_device(task.settings)
        return make_validator(task, samples, args.estimator, device, run_dtype(task.settings))

    if args.list:
        print(*PRESETS, sep="\n")
    elif args.preset is None:
        raise ValueError("name a preset; `humansd train --list` shows them")
    else:
        validator = make if args.validate is not None else None
        print(run_preset(args.preset, dict(args.settings), args.out, args.dry_run, validator, args.config))
